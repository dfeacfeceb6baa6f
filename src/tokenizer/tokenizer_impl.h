#pragma once

#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/decoder.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/post_processor.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer.h"

namespace moegen {

struct Tokenizer::Impl {
  text::Normalizer normalizer;
  text::PreTokenizer pre_tokenizer;
  text::Bpe bpe;
  text::AddedTokens added;
  text::PostProcessor post_processor;
  text::Decoder decoder;
  int32_t bos = -1;  ///< put in front where nothing else does; -1: none
  int32_t eos = -1;  ///< "eos_token" of tokenizer_config.json; -1: none
  int32_t vocab_size = 0;

  /// `cut`: added tokens that stand in normalized text are recognised. `start_chars`: as in Pieces.
  void encode_normalized(std::string_view part, size_t start_chars, bool cut, text::Regex::Scratch& scratch, std::vector<int32_t>& ids) const;
  /// "" for an id that has no token.
  [[nodiscard]] std::string_view token(int32_t id) const;
  [[nodiscard]] bool is_special(int32_t id) const;
  [[nodiscard]] bool is_shown(int32_t id, bool skip_special_tokens) const;
};

}  // namespace moegen
