#pragma once

#include <string>
#include <string_view>

namespace moegen::text {

/// Unicode 15 and 16 for libraries that know Unicode 14: a character that came later is taken for an older one of the same general
/// category, of as many bytes and, where there is one, of the same script. Others are themselves.
char32_t known_char(char32_t c);

/// Those that newer characters from `first` to `last` are taken for and that are not among these themselves. Each once.
std::u32string known_chars_beyond(char32_t first, char32_t last);

/// The text with known characters; `storage` holds it where it differs. Places stay where they are.
std::string_view with_known_chars(std::string_view valid, std::string& storage);

}  // namespace moegen::text
