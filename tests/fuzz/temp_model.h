#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace moegen::testing {

/// A folder in memory that goes away with the program, for readers that want files.
class TempModel {
 public:
  TempModel() {
    std::string name = "/dev/shm/moegen-fuzz-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    dir_ = name;
  }
  TempModel(const TempModel&) = delete;
  TempModel& operator=(const TempModel&) = delete;
  ~TempModel() {
    std::error_code ignored;
    std::filesystem::remove_all(dir_, ignored);
  }

  std::filesystem::path write(const std::string& name, std::string_view bytes) const {
    std::ofstream(dir_ / name, std::ios::binary) << bytes;
    return dir_ / name;
  }
  [[nodiscard]] const std::filesystem::path& dir() const { return dir_; }

 private:
  std::filesystem::path dir_;
};

}  // namespace moegen::testing
