#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/regex.h"

namespace moegen::text {

/// A text cut into words. Spans are in order and do not overlap, but need not cover the text.
struct Pieces {
  struct Span {
    uint32_t begin;
    uint32_t end;
  };
  std::string text;
  std::vector<Span> spans;
  size_t start_chars = 0;  ///< how many characters from the first span on stand for the first of the whole input; 0: it starts further on
  [[nodiscard]] std::string_view word(size_t i) const { return std::string_view(text).substr(spans[i].begin, spans[i].end - spans[i].begin); }
};

/// The "pre_tokenizer" of tokenizer.json. Immutable.
class PreTokenizer {
 public:
  /// `spec` may be null: the whole text is one word. Throws Error(unsupported | corrupt).
  static PreTokenizer parse(const nlohmann::json& spec);
  PreTokenizer();
  ~PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  /// Cuts the spans further and may rewrite the text. Spans stay non-empty.
  void apply(Pieces& pieces, Regex::Scratch& scratch) const;

  struct Step;

 private:
  std::vector<std::unique_ptr<const Step>> steps_;
};

}  // namespace moegen::text
