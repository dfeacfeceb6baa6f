#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "tokenizer/bpe.h"
#include "tokenizer/token_table.h"

namespace moegen::text {

/// tokenizer.json, read without a document for its two long parts.
struct TokenizerFile {
  nlohmann::json rest;  ///< all but model.vocab and model.merges; an object that has "model"
  TokenTable vocab;
  MergeList merges;
};

/// `text` is the file, `name` its path for messages. Throws Error(corrupt | unsupported).
TokenizerFile parse_tokenizer_file(const std::string& text, const std::string& name);

}  // namespace moegen::text
