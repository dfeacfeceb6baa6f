#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// What Python's str, float and int do to text. Strings are valid UTF-8, counts and indices are of code points.
namespace moegen::python {

enum class Side { left, right, both };

bool is_space(char32_t c);      ///< str.isspace of one character
bool is_printable(char32_t c);  ///< stands as it is in repr(str)
std::string_view strip(std::string_view s, Side side);
std::string_view strip(std::string_view s, std::string_view chars, Side side);

/// Resolves the escapes of a string literal. false where one is malformed.
bool unescape(std::string_view literal, std::string& out);

std::string upper(std::string_view s);
std::string lower(std::string_view s);
std::string casefold(std::string_view s);
std::string title(std::string_view s);
std::string capitalize(std::string_view s);
std::string swap_case(std::string_view s);

/// At most `max` cuts; max < 0: no limit. Without a separator: at runs of white space, none at the ends.
std::vector<std::string_view> split(std::string_view s, int64_t max);
std::vector<std::string_view> split(std::string_view s, std::string_view separator, int64_t max);
std::vector<std::string_view> rsplit(std::string_view s, int64_t max);
std::vector<std::string_view> rsplit(std::string_view s, std::string_view separator, int64_t max);
std::vector<std::string_view> split_lines(std::string_view s, bool keep_ends);
/// Without overlap; of an empty text, as Python counts it.
size_t count(std::string_view s, std::string_view what);

enum class Is { alpha, digit, decimal, numeric, alnum, space, upper, lower, title, identifier, ascii, printable };
bool is(std::string_view s, Is what);

std::string repr(std::string_view s);
/// repr(float): the shortest digits that give the same number back.
std::string repr(double v);
/// '%.*f'
std::string fixed(double v, int digits);
/// int(s) and float(s); false where Python raises. The integer has to fit 64 bits.
bool parse_integer(std::string_view s, int base, int64_t& v);
bool parse_real(std::string_view s, double& v);

/// As json.dumps writes a text.
void append_json(std::string& to, std::string_view s, bool ensure_ascii);

}  // namespace moegen::python
