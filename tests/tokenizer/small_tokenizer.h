#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "tokenizer/byte_alphabet.h"
#include "tokenizer/tokenizer.h"

namespace moegen::testing {

/// A directory that goes away with the test.
class ScratchDir {
 public:
  ScratchDir() {
    std::string name = (std::filesystem::temp_directory_path() / "moegen-test-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~ScratchDir() { std::filesystem::remove_all(path_); }
  ScratchDir(const ScratchDir&) = delete;
  ScratchDir& operator=(const ScratchDir&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << text;
  }

 private:
  std::filesystem::path path_;
};

/// A byte-level BPE: the 256 bytes (id = byte), then one token a merge, "a b" in the alphabet of byte-level vocabularies.
inline nlohmann::json byte_level_tokenizer(const std::vector<std::string>& merges) {
  using nlohmann::json;
  json vocab = json::object();
  for (int b = 0; b < 256; ++b) vocab[text::ByteAlphabet::get().to_text(std::string(1, static_cast<char>(b)))] = b;
  for (const std::string& m : merges) {
    std::string joined = m;
    joined.erase(joined.find(' '), 1);
    if (!vocab.contains(joined)) vocab[joined] = static_cast<int>(vocab.size());
  }
  return {{"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}},
          {"added_tokens", json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}}};
}

/// A sentencepiece-like BPE with byte fallback over "▁", a to e and their merges.
inline nlohmann::json byte_fallback_tokenizer() {
  using nlohmann::json;
  json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int b = 0; b < 256; ++b) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(b));
    vocab[name] = 3 + b;
  }
  for (const char* t : {"\u2581", "a", "b", "c", "d", "e", "\u2581a", "ab", "\u2581ab", "cd"}) vocab[t] = static_cast<int>(vocab.size());
  json merges = json::array();  // pairs, as newer files have them
  for (const char* m : {"\u2581 a", "a b", "\u2581a b", "\u2581 ab", "c d"}) {
    const std::string both = m;
    merges.push_back(json::array({both.substr(0, both.find(' ')), both.substr(both.find(' ') + 1)}));
  }
  return {{"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}, {"byte_fallback", true}, {"fuse_unk", true}, {"unk_token", "<unk>"}}},
          {"added_tokens", {{{"id", 1}, {"content", "<s>"}, {"special", true}}, {{"id", 2}, {"content", "</s>"}, {"special", true}}}},
          {"pre_tokenizer", {{"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "first"}, {"split", false}}},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single", {{{"SpecialToken", {{"id", "<s>"}}}}, {{"Sequence", {{"id", "A"}}}}}},
            {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {1}}}}}}}},
          {"decoder",
           {{"type", "Sequence"},
            {"decoders",
             {{{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}},
              {{"type", "ByteFallback"}},
              {{"type", "Fuse"}},
              {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}}}};
}

inline Tokenizer load(const nlohmann::json& file, const nlohmann::json& config = nullptr) {
  const ScratchDir dir;
  dir.write("tokenizer.json", file.dump());
  if (!config.is_null()) dir.write("tokenizer_config.json", config.dump());
  return Tokenizer::load(dir.path());
}

/// Where the goldens of other people's tokenizers are; they are not part of the repository.
inline std::filesystem::path shared_data() {
  const char* set = std::getenv("MOEGEN_SHARED");
  return std::filesystem::path(set != nullptr ? set : MOEGEN_SOURCE_DIR "/../shared") / "data";
}

inline nlohmann::ordered_json read_json(const std::filesystem::path& path) {
  std::ifstream in(path);
  return nlohmann::ordered_json::parse(in);
}

}  // namespace moegen::testing
