#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace moegen {

struct JsonLimits {
  size_t max_depth = 64;     ///< nested arrays and objects
  bool unique_keys = false;  ///< the same key twice in one object is an error
};

/// Parses one JSON value that fills `text`. Strict: UTF-8, no NaN, nothing behind it. `what` names the text in the
/// Error(corrupt) that is thrown, which says where in it the fault is.
nlohmann::json parse_json(std::string_view text, std::string_view what, const JsonLimits& limits = {});
/// The same, with the keys of objects in the order of the text.
nlohmann::ordered_json parse_ordered_json(std::string_view text, std::string_view what, const JsonLimits& limits = {});

/// Throws Error(corrupt) if a file begins as a pointer of Git LFS does, which stands for the file where it was not fetched. `start` is what it begins
/// with: 8 bytes are enough.
void refuse_lfs_pointer(std::string_view start, std::string_view what);

/// JSON in which escapes of lone surrogates, half of a character that was cut in two, are \uFFFD: UTF-8 cannot hold them, the parser refuses them.
[[nodiscard]] std::string without_lone_surrogates(std::string json);

}  // namespace moegen
