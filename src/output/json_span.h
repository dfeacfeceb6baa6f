#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moegen {

// Values of JSON as they stand in a model's output: the text of a value is kept, so that no number is rounded and no key
// moves. Linear in the text, without recursion, nothing is thrown.

/// The text of the JSON value that `text` begins with, white space before it skipped; nothing if there is no valid one.
/// A string, an object or an array, or a scalar that ends before white space, a comma or a bracket.
std::optional<std::string_view> json_value(std::string_view text);

/// Whether `text` is one valid JSON value and nothing else but white space.
bool is_json(std::string_view text);

/// The members of a JSON object that is valid, in order: the key, and the text of the value.
std::vector<std::pair<std::string, std::string_view>> json_members(std::string_view object);

/// The texts of the elements of a JSON array that is valid.
std::vector<std::string_view> json_elements(std::string_view array);

/// The text that a JSON string, valid, stands for.
std::string json_string(std::string_view quoted);

/// `text` as a JSON string; what is no UTF-8 becomes U+FFFD.
std::string json_quoted(std::string_view text);

}  // namespace moegen
