#pragma once

#include <algorithm>
#include <optional>
#include <string_view>

namespace moegen {

constexpr std::string_view kSpace = " \t\n\r\f\v";

inline std::string_view trimmed(std::string_view text, std::string_view what = kSpace) {
  const size_t begin = text.find_first_not_of(what);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(what) + 1 - begin);
}

/// A place in a text that only moves on.
struct Cursor {
  std::string_view text;
  size_t pos = 0;

  [[nodiscard]] bool done() const { return pos >= text.size(); }
  [[nodiscard]] std::string_view rest() const { return text.substr(pos); }
  [[nodiscard]] bool at(std::string_view mark) const { return rest().starts_with(mark); }
  bool skip(std::string_view mark) {
    const bool there = at(mark);
    if (there) pos += mark.size();
    return there;
  }
  void skip_space() { pos = std::min(text.size(), text.find_first_not_of(kSpace, pos)); }
  /// A mark that a model has repeated, with white space between; an empty one is none.
  void skip_again(std::string_view mark) {
    if (mark.empty()) return;
    Cursor next = *this;
    for (next.skip_space(); next.skip(mark); next.skip_space()) pos = next.pos;
  }
  /// What stands before the next `mark`, which is skipped; nothing, and no move, if there is none.
  std::optional<std::string_view> until(std::string_view mark) {
    const size_t found = text.find(mark, pos);
    if (found == std::string_view::npos) return std::nullopt;
    const std::string_view before = text.substr(pos, found - pos);
    pos = found + mark.size();
    return before;
  }
};

}  // namespace moegen
