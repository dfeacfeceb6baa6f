#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/normalizer.h"
#include "tokenizer/token_table.h"

namespace moegen::text {

struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool special = false;
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool normalized = true;  ///< looked for in the normalized text
  std::string encoded;     ///< what stands for it in normalized text, and what the decoder gets (as tokenizers 0.23 has it)
};

/// Finds the longest of many texts, leftmost first. Immutable after the last add().
class Trie {
 public:
  void add(std::string_view text, int32_t value);
  /// The longest text that starts at `pos`; its value, and its length in `bytes`. -1 if there is none.
  [[nodiscard]] int32_t longest_at(std::string_view text, size_t pos, size_t& bytes) const;
  [[nodiscard]] bool empty() const { return values_.size() <= 1; }

 private:
  [[nodiscard]] int32_t child(int32_t node, char byte) const;
  std::vector<int32_t> values_ = {-1};  // by node
  std::unordered_map<uint64_t, int32_t> children_;
  std::vector<int32_t> root_ = std::vector<int32_t>(256, -1);
};

/// "added_tokens": special and other tokens that are cut out of a text before the model sees it. Immutable.
class AddedTokens {
 public:
  struct Part {
    size_t begin;
    size_t end;
    int32_t id;  ///< of the added token; -1: text in between
  };
  /// An id of the vocabulary wins over the one that the list gives. Throws Error(corrupt).
  static AddedTokens parse(const nlohmann::json& list, const TokenTable& vocab, const Normalizer& normalizer, Regex::Scratch& scratch);
  /// Cuts at the tokens that are looked for in the text as it came, or in the normalized text. Parts are never empty.
  [[nodiscard]] std::vector<Part> cut(std::string_view text, bool normalized) const;
  [[nodiscard]] bool any(bool normalized) const { return !tries_[normalized ? 1 : 0].empty(); }
  [[nodiscard]] const AddedToken* find(int32_t id) const;
  [[nodiscard]] const AddedToken* find(std::string_view content) const;
  [[nodiscard]] const std::vector<AddedToken>& all() const { return tokens_; }

 private:
  std::vector<AddedToken> tokens_;
  std::unordered_map<int32_t, size_t> by_id_;
  std::unordered_map<std::string, size_t> by_content_;
  std::array<Trie, 2> tries_;  // of texts as they came, and of normalized ones
};

}  // namespace moegen::text
