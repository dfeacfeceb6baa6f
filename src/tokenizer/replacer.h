#pragma once

#include <optional>
#include <string>

#include "base/text_search.h"
#include "tokenizer/json_fields.h"
#include "tokenizer/regex.h"

namespace moegen::text {

/// `{"String": ..}` or `{"Regex": ..}`: what Split and Replace look for. Immutable.
class Pattern {
 public:
  static Pattern parse(const Fields& owner, const char* key);
  /// Calls visit(Match) from left to right, without overlap.
  template <typename Visit>
  void for_each(std::string_view text, Regex::Scratch& scratch, Visit&& visit) const {
    if (regex_) {
      for_each_match(*regex_, text, scratch, visit);
      return;
    }
    for (size_t from = find_text(text, literal_); from != std::string_view::npos; from = find_text(text, literal_, from + literal_.size())) {
      visit(Match{from, from + literal_.size()});
    }
  }
  [[nodiscard]] bool is_regex() const { return regex_.has_value(); }
  [[nodiscard]] const std::string& literal() const { return literal_; }

 private:
  std::string literal_;  // never empty where it is used
  std::optional<Regex> regex_;
};

/// Replaces every match by a fixed text. Immutable.
class Replacer {
 public:
  static Replacer parse(const Fields& fields);
  [[nodiscard]] std::string apply(std::string_view text, Regex::Scratch& scratch) const;
  /// `at_start`: how many characters stand for the first of an original text. Before and behind, as tokenizers counts it.
  [[nodiscard]] std::string apply(std::string_view text, Regex::Scratch& scratch, size_t& at_start) const;
  [[nodiscard]] const Pattern& pattern() const { return pattern_; }
  [[nodiscard]] const std::string& content() const { return content_; }

 private:
  Pattern pattern_;
  std::string content_;
};

}  // namespace moegen::text
