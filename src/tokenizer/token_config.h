#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tokenizer/token_table.h"

namespace moegen::text {

/// What a checkpoint's files beside tokenizer.json say about tokens, as transformers 5 reads them.
struct TokenConfig {
  /// tokenizer_config.json; over its members those of special_tokens_map.json where it has no "added_tokens_decoder", as in
  /// older checkpoints. An object, empty without files.
  nlohmann::ordered_json members = nlohmann::ordered_json::object();
  /// added_tokens.json of such checkpoints: content to id. An object.
  nlohmann::ordered_json added = nlohmann::ordered_json::object();

  /// Throws Error(corrupt) where a file is no object.
  static TokenConfig load(const std::filesystem::path& dir);
  /// "added_tokens" of tokenizer.json as these files change it: an entry of "added_tokens_decoder" wins over the one with the
  /// same content (though what one of them calls special is special) or joins the list, and so do the contents of
  /// added_tokens.json; the tokens of "bos_token" and its like and of "extra_special_tokens" are added tokens if they are in the vocabulary.
  [[nodiscard]] nlohmann::json amended(nlohmann::json added_tokens, const TokenTable& vocab) const;
};

}  // namespace moegen::text
