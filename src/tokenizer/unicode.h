#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace moegen::text {

inline constexpr char32_t kReplacement = 0xFFFD;

/// One character of valid UTF-8 at `pos`, which moves behind it. The caller checks pos < text.size().
char32_t next_char(std::string_view text, size_t& pos);
/// Bytes of the character that starts with this byte, in valid UTF-8.
inline size_t char_bytes(char first) {
  const auto b = static_cast<unsigned char>(first);
  return b < 0x80 ? 1 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : 4;
}
void append_utf8(std::string& to, char32_t c);
std::string to_utf8(char32_t c);
std::u32string to_utf32(std::string_view valid);
size_t count_chars(std::string_view valid);
bool is_ascii(std::string_view text);

/// Offset of the first byte that is not part of valid UTF-8; text.size() if there is none.
size_t first_invalid(std::string_view text);
/// The same text with U+FFFD for each maximal invalid part (as the Unicode standard recommends).
std::string valid_utf8(std::string_view text);

/// Turns bytes that come in pieces into valid UTF-8; what may still become a character is held back.
class Utf8Stream {
 public:
  void push(std::string_view bytes, std::string& out);
  /// Half a character at the end is one U+FFFD.
  void finish(std::string& out);

 private:
  std::string held_;  // at most 3 bytes
};

bool is_whitespace(char32_t c);   ///< the property White_Space
bool is_word(char32_t c);         ///< what \w means in Rust's regex
bool is_numeric(char32_t c);      ///< categories Nd, Nl, No
bool is_punctuation(char32_t c);  ///< category P of Unicode 8, and ASCII's symbols
/// Characters that normal forms leave alone in tokenizers, whose tables for them are those of Unicode 9.
bool is_new_in_normal_forms(char32_t c);
/// Full lower case of one character without context, as Rust's char::to_lowercase.
void append_lower(std::string& to, char32_t c);

}  // namespace moegen::text
