#include "batch/json_text.h"

#include <algorithm>
#include <charconv>
#include <system_error>

#include "base/json.h"

namespace moegen {
namespace {

constexpr std::string_view kNumber = "+-.eE0123456789";

// `at` is the opening quote; the result lies behind the closing one.
size_t skip_string(std::string_view text, size_t at) {
  for (++at; at < text.size() && text[at] != '"'; ++at) {
    if (text[at] == '\\') ++at;
  }
  return at < text.size() ? at + 1 : text.size();
}

// To the comma or bracket that ends the value which starts at `at`.
size_t skip_value(std::string_view text, size_t at) {
  for (int depth = 0; at < text.size();) {
    const char c = text[at];
    if (c == '"') {
      at = skip_string(text, at);
      continue;
    }
    if (depth == 0 && (c == ',' || c == '}' || c == ']')) break;
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    ++at;
  }
  return at;
}

}  // namespace

std::string_view member_text(std::string_view object, std::string_view key) {
  for (size_t at = object.find('"'); at != std::string_view::npos; at = object.find('"', at)) {
    const size_t name_end = skip_string(object, at);
    const std::string_view name = object.substr(at, name_end - at);
    const size_t value = object.find(':', name_end) + 1;
    at = skip_value(object, value);
    if (parse_json(name, "a key").get_ref<const std::string&>() == key) return object.substr(value, at - value);
  }
  return {};
}

std::string clamp_numbers(std::string_view json) {
  std::string result;
  for (size_t at = 0; at < json.size();) {
    size_t end = at + 1;
    if (json[at] == '"') end = skip_string(json, at);
    std::string_view token = json.substr(at, end - at);
    if (kNumber.find(json[at]) != std::string_view::npos) {
      end = std::min(json.find_first_not_of(kNumber, at), json.size());
      token = json.substr(at, end - at);
      double value = 0;
      const auto parsed = std::from_chars(token.data(), token.data() + token.size(), value);
      const bool tiny = token.find("e-") != std::string_view::npos || token.find("E-") != std::string_view::npos;
      if (parsed.ec == std::errc::result_out_of_range && !tiny) token = token[0] == '-' ? "-1.7976931348623157e308" : "1.7976931348623157e308";
    }
    result += token;
    at = end;
  }
  return result;
}

}  // namespace moegen
