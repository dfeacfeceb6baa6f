#include "tokenizer/python_text.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "base/text_search.h"
#include "tokenizer/unicode.h"

namespace moegen::python {
namespace {

using text::append_utf8;
using text::next_char;

utf8proc_int32_t code(char32_t c) { return static_cast<utf8proc_int32_t>(c); }
utf8proc_category_t category(char32_t c) { return utf8proc_category(code(c)); }
bool is_upper_char(char32_t c) { return utf8proc_isupper(code(c)) != 0 && category(c) != UTF8PROC_CATEGORY_LT; }
bool is_lower_char(char32_t c) { return utf8proc_islower(code(c)) != 0; }
bool is_cased(char32_t c) { return is_upper_char(c) || is_lower_char(c) || category(c) == UTF8PROC_CATEGORY_LT; }
bool is_alpha(char32_t c) { return category(c) >= UTF8PROC_CATEGORY_LU && category(c) <= UTF8PROC_CATEGORY_LO; }

struct Special {
  char32_t c;
  const char* upper;
  const char* title;
};
// Upper cases that are more than one character (SpecialCasing.txt); those of Greek with iota subscript are left out.
constexpr std::array<Special, 11> kSpecial = {{{0xDF, "SS", "Ss"},
                                               {0x149,
                                                "\xCA\xBC"
                                                "N",
                                                "\xCA\xBC"
                                                "N"},
                                               {0x1F0, "J\xCC\x8C", "J\xCC\x8C"},
                                               {0x587, "\xD4\xB5\xD5\x92", "\xD4\xB5\xD6\x82"},
                                               {0xFB00, "FF", "Ff"},
                                               {0xFB01, "FI", "Fi"},
                                               {0xFB02, "FL", "Fl"},
                                               {0xFB03, "FFI", "Ffi"},
                                               {0xFB04, "FFL", "Ffl"},
                                               {0xFB05, "ST", "St"},
                                               {0xFB06, "ST", "St"}}};

void append_upper(std::string& to, char32_t c, bool title) {
  const auto* it = std::find_if(kSpecial.begin(), kSpecial.end(), [&](const Special& s) { return s.c == c; });
  if (it != kSpecial.end()) {
    to += title ? it->title : it->upper;
  } else {
    append_utf8(to, static_cast<char32_t>(title ? utf8proc_totitle(code(c)) : utf8proc_toupper(code(c))));
  }
}

// Sigma at the end of a word has a form of its own.
void append_lower(std::string& to, std::u32string_view s, size_t i) {
  if (s[i] == 0x3A3) {
    const bool before = i > 0 && is_cased(s[i - 1]);
    const bool behind = i + 1 < s.size() && is_cased(s[i + 1]);
    append_utf8(to, before && !behind ? 0x3C2 : 0x3C3);
    return;
  }
  text::append_lower(to, s[i]);
}

size_t last_char(std::string_view s) {
  size_t i = s.size() - 1;
  while (i > 0 && (static_cast<unsigned char>(s[i]) & 0xC0) == 0x80) --i;
  return i;
}

template <typename Drop>
std::string_view strip_if(std::string_view s, Side side, Drop&& drop) {
  while (side != Side::right && !s.empty()) {
    size_t next = 0;
    if (!drop(next_char(s, next))) break;
    s.remove_prefix(next);
  }
  while (side != Side::left && !s.empty()) {
    const size_t at = last_char(s);
    size_t next = at;
    if (!drop(next_char(s, next))) break;
    s = s.substr(0, at);
  }
  return s;
}

bool parse_hex(std::string_view s, char32_t& c) {
  uint32_t v = 0;
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), v, 16);
  c = v;
  return error == std::errc() && end == s.data() + s.size() && v <= 0x10FFFF;
}

}  // namespace

bool is_space(char32_t c) { return (c >= 0x1C && c <= 0x1F) || text::is_whitespace(c); }
std::string_view strip(std::string_view s, Side side) { return strip_if(s, side, is_space); }

std::string_view strip(std::string_view s, std::string_view chars, Side side) {
  const std::u32string set = text::to_utf32(chars);
  return strip_if(s, side, [&](char32_t c) { return set.find(c) != std::u32string::npos; });
}

bool unescape(std::string_view s, std::string& out) {
  static constexpr std::string_view kLetters = "abfnrtv\\'\"";
  static constexpr std::string_view kValues = "\a\b\f\n\r\t\v\\'\"";
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] != '\\' || i + 1 >= s.size()) {
      out += s[i];
      continue;
    }
    const char c = s[++i];
    if (const size_t k = kLetters.find(c); k != std::string_view::npos) {
      out += kValues[k];
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      char32_t v = 0;
      if (i + digits >= s.size() || !parse_hex(s.substr(i + 1, digits), v)) return false;
      append_utf8(out, v >= 0xD800 && v < 0xE000 ? text::kReplacement : v);
      i += digits;
    } else if (c >= '0' && c <= '7') {
      char32_t v = 0;
      size_t n = 0;
      for (; n < 3 && i + n < s.size() && s[i + n] >= '0' && s[i + n] <= '7'; ++n) v = v * 8 + static_cast<char32_t>(s[i + n] - '0');
      append_utf8(out, v);
      i += n - 1;
    } else if (c == 'N') {  // names of characters are not known here
      return false;
    } else if (c != '\n') {  // a newline behind a backslash joins lines; other letters stay as they are
      out += '\\';
      out += c;
    }
  }
  return true;
}

std::string upper(std::string_view s) {
  std::string out;
  for (size_t i = 0; i < s.size();) append_upper(out, next_char(s, i), false);
  return out;
}

std::string lower(std::string_view s) {
  const std::u32string chars = text::to_utf32(s);
  std::string out;
  for (size_t i = 0; i < chars.size(); ++i) append_lower(out, chars, i);
  return out;
}

std::string casefold(std::string_view s) {
  std::string out;
  for (const char32_t c : text::to_utf32(s)) {
    std::array<utf8proc_int32_t, 8> folded{};
    int last_class = 0;
    const utf8proc_ssize_t n =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), folded.data(), folded.size(), UTF8PROC_CASEFOLD, &last_class);
    for (utf8proc_ssize_t i = 0; i < n; ++i) text::append_utf8(out, static_cast<char32_t>(folded[static_cast<size_t>(i)]));
  }
  return out;
}

std::string title(std::string_view s) {
  const std::u32string chars = text::to_utf32(s);
  std::string out;
  bool inside = false;
  for (size_t i = 0; i < chars.size(); ++i) {
    if (inside) {
      append_lower(out, chars, i);
    } else {
      append_upper(out, chars[i], true);
    }
    inside = is_cased(chars[i]);
  }
  return out;
}

std::string capitalize(std::string_view s) {
  const std::u32string chars = text::to_utf32(s);
  std::string out;
  for (size_t i = 0; i < chars.size(); ++i) {
    if (i == 0) {
      append_upper(out, chars[i], true);
    } else {
      append_lower(out, chars, i);
    }
  }
  return out;
}

std::string swap_case(std::string_view s) {
  const std::u32string chars = text::to_utf32(s);
  std::string out;
  for (size_t i = 0; i < chars.size(); ++i) {
    if (is_upper_char(chars[i])) {
      append_lower(out, chars, i);
    } else if (is_lower_char(chars[i])) {
      append_upper(out, chars[i], false);
    } else {
      append_utf8(out, chars[i]);
    }
  }
  return out;
}

std::vector<std::string_view> split(std::string_view s, int64_t max) {
  std::vector<std::string_view> parts;
  s = strip(s, Side::left);
  while (!s.empty()) {
    if (max >= 0 && static_cast<int64_t>(parts.size()) >= max) {
      parts.push_back(s);  // white space at its other end is kept
      break;
    }
    size_t end = 0;
    size_t next = 0;
    while (end < s.size() && !is_space(next_char(s, next))) end = next;
    parts.push_back(s.substr(0, end));
    s = strip(s.substr(end), Side::left);
  }
  return parts;
}

std::vector<std::string_view> split(std::string_view s, std::string_view separator, int64_t max) {
  std::vector<std::string_view> parts;
  size_t begin = 0;
  for (size_t at = find_text(s, separator); at != std::string_view::npos && (max < 0 || static_cast<int64_t>(parts.size()) < max);
       at = find_text(s, separator, begin)) {
    parts.push_back(s.substr(begin, at - begin));
    begin = at + separator.size();
  }
  parts.push_back(s.substr(begin));
  return parts;
}

std::vector<std::string_view> rsplit(std::string_view s, int64_t max) {
  std::vector<std::string_view> parts;
  s = strip(s, Side::right);
  while (!s.empty()) {
    if (max >= 0 && static_cast<int64_t>(parts.size()) >= max) {
      parts.push_back(s);
      break;
    }
    const size_t word = strip_if(s, Side::right, [](char32_t c) { return !is_space(c); }).size();
    parts.push_back(s.substr(word));
    s = strip(s.substr(0, word), Side::right);
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> rsplit(std::string_view s, std::string_view separator, int64_t max) {
  std::vector<std::string_view> parts;
  while (max < 0 || static_cast<int64_t>(parts.size()) < max) {
    const size_t at = rfind_text(s, separator);
    if (at == std::string_view::npos) break;
    parts.push_back(s.substr(at + separator.size()));
    s = s.substr(0, at);
  }
  parts.push_back(s);
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> split_lines(std::string_view s, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t i = 0; i < s.size();) {
    const size_t at = i;
    const char32_t c = next_char(s, i);
    const bool ends = (c >= '\n' && c <= '\r') || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (!ends) continue;
    if (c == '\r' && i < s.size() && s[i] == '\n') ++i;
    lines.push_back(s.substr(begin, (keep_ends ? i : at) - begin));
    begin = i;
  }
  if (begin < s.size()) lines.push_back(s.substr(begin));
  return lines;
}

size_t count(std::string_view s, std::string_view what) {
  if (what.empty()) return text::count_chars(s) + 1;
  size_t n = 0;
  for (size_t at = find_text(s, what); at != std::string_view::npos; at = find_text(s, what, at + what.size())) ++n;
  return n;
}

namespace {

bool is_one(char32_t c, Is what) {
  switch (what) {
    case Is::alpha:
      return is_alpha(c);
    case Is::decimal:
    case Is::digit:
      return category(c) == UTF8PROC_CATEGORY_ND || (what == Is::digit && (c == 0xB2 || c == 0xB3 || c == 0xB9 || (c >= 0x2070 && c <= 0x2089)));
    case Is::numeric:
      return text::is_numeric(c);
    case Is::alnum:
      return is_alpha(c) || text::is_numeric(c);
    case Is::space:
      return is_space(c);
    case Is::identifier:
      return text::is_word(c);
    case Is::ascii:
      return c < 0x80;
    case Is::printable:
      return is_printable(c);
    default:
      return false;
  }
}

bool is_cased_text(std::u32string_view chars, Is what) {
  bool any = false;
  bool inside = false;
  for (const char32_t c : chars) {
    const bool up = is_upper_char(c) || category(c) == UTF8PROC_CATEGORY_LT;
    const bool low = is_lower_char(c);
    if (what == Is::upper && (low || category(c) == UTF8PROC_CATEGORY_LT)) return false;
    if (what == Is::lower && up) return false;
    if (what == Is::title && ((up && inside) || (low && !inside))) return false;
    inside = up || low;
    any = any || inside;
  }
  return any;
}

}  // namespace

bool is(std::string_view s, Is what) {
  const std::u32string chars = text::to_utf32(s);
  if (what == Is::upper || what == Is::lower || what == Is::title) return is_cased_text(chars, what);
  if (chars.empty()) return what == Is::ascii || what == Is::printable;
  if (what == Is::identifier && text::is_numeric(chars[0])) return false;
  return std::all_of(chars.begin(), chars.end(), [&](char32_t c) { return is_one(c, what); });
}

}  // namespace moegen::python
