// Runs a fuzz target over the files of a folder, without libFuzzer: corpus and past finds as a test.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz.h"

int main(int argc, char** argv) {
  namespace fs = std::filesystem;
  std::vector<fs::path> files;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : fs::directory_iterator(argv[i])) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) {
    fmt::print("{}\n", file.filename().string());
    std::fflush(stdout);  // names the file that a crash came from
    std::ifstream in(file, std::ios::binary);
    moegen::testing::fuzz_one(std::string(std::istreambuf_iterator<char>(in), {}));
  }
  moegen::testing::require(!files.empty(), "there are files to replay");
}
