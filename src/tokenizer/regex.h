#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "tokenizer/newer_chars.h"

namespace moegen::text {

struct Match {
  size_t begin = 0;
  size_t end = 0;
};

/// A compiled pattern. Immutable: may be used from many threads, each with its own Scratch.
class Regex {
 public:
  /// What one thread needs to match; reused from match to match.
  class Scratch {
   public:
    Scratch();
    ~Scratch();
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    std::string known_chars;  ///< for with_known_chars

   private:
    friend class Regex;
    struct Impl;
    std::unique_ptr<Impl> impl_;
  };

  /// The dialect of tokenizer.json. Throws Error(unsupported) with the pattern and the reason.
  static Regex compile(const std::string& pattern);
  /// The first match at or behind `from` in valid UTF-8. Throws Error(invalid_argument) where the work exceeds a bound.
  bool find(std::string_view subject, size_t from, Scratch& scratch, Match& match) const;

 private:
  struct Code;
  explicit Regex(std::shared_ptr<const Code> code) : code_(std::move(code)) {}
  std::shared_ptr<const Code> code_;
};

/// Calls visit(Match) for each match from left to right; after an empty match the search goes on one character further.
template <typename Visit>
void for_each_match(const Regex& regex, std::string_view text, Regex::Scratch& scratch, Visit&& visit) {
  text = with_known_chars(text, scratch.known_chars);
  size_t from = 0;
  size_t last_end = static_cast<size_t>(-1);
  Match m;
  while (from <= text.size() && regex.find(text, from, scratch, m)) {
    const bool empty = m.begin == m.end;
    if (!empty || m.begin != last_end) visit(m);
    last_end = m.end;
    from = m.end;
    if (empty) {
      ++from;
      while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xC0) == 0x80) ++from;
    }
  }
}

}  // namespace moegen::text
