#pragma once

#include <string>
#include <string_view>

namespace moegen {

/// The text of member `key` of `object`, the text of a JSON object that is known to be valid; empty if there is none.
/// Chat templates see keys in the order of the text, which a parsed nlohmann::json has lost (and its ordered variant needs
/// quadratic time for an object with many members).
std::string_view member_text(std::string_view object, std::string_view key);

/// `json` with every number beyond the range of a double replaced by the largest double, so that the rest of a line can be
/// read and the number be refused by the name of its field. The text need not be valid.
std::string clamp_numbers(std::string_view json);

}  // namespace moegen
