#pragma once

#include <cstdint>
#include <string_view>

namespace moegen {

/// "512MiB", "24GB" and "8G" (binary), "2g" (decimal) or bytes, as the command line takes sizes. Throws Error(invalid_argument).
uint64_t parse_size(std::string_view text);
/// "32768", "32k" (decimal) or "32K" (binary). Throws Error(invalid_argument).
int64_t parse_count(std::string_view text);

}  // namespace moegen
