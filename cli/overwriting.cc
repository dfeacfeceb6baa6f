#include "overwriting.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "moegen/error.h"

namespace {

namespace fs = std::filesystem;

// What load reads of a directory; anything else there may be a user's.
bool is_of_a_checkpoint(const fs::path& file) {
  constexpr std::array<std::string_view, 11> kNames = {"config.json",
                                                       "generation_config.json",
                                                       "tokenizer.json",
                                                       "tokenizer_config.json",
                                                       "special_tokens_map.json",
                                                       "added_tokens.json",
                                                       "chat_template.jinja",
                                                       "chat_template.json",
                                                       "vocab.json",
                                                       "merges.txt",
                                                       "model.safetensors.index.json"};
  return file.extension() == ".safetensors" || std::find(kNames.begin(), kNames.end(), file.filename().string()) != kNames.end();
}

bool are_one(const fs::path& a, const fs::path& b) {
  std::error_code none;
  return fs::equivalent(a, b, none) && !fs::is_character_file(a, none);
}

}  // namespace

void refuse_overwriting(const NamedFiles& writes, const NamedFiles& reads, const fs::path& model) {
  for (const auto& [option, file] : writes) {
    if (file.empty()) continue;
    const auto refuse = [&, &option = option, &file = file](const std::string& what) {
      throw moegen::Error(moegen::ErrorCode::invalid_argument,
                          option + " " + file.string() + ": this is " + what + ", which is read: give another file");
    };
    for (const auto& [what, read] : reads) {
      if (are_one(file, read)) refuse("the file of " + what);
    }
    if (are_one(file, model)) refuse("the model");
    if (is_of_a_checkpoint(file) && are_one(fs::absolute(file).parent_path(), model)) refuse("a name of the model's own files");
  }
}
