#pragma once

#include <cstddef>
#include <string_view>

namespace moegen {

/// Offset of the first or last `what` in `text`, at `from` or behind it; std::string_view::npos if there is none. As find() and rfind()
/// of std::string_view, whose time may be the product of both lengths; here it is linear, for both may be untrusted.
size_t find_text(std::string_view text, std::string_view what, size_t from = 0);
size_t rfind_text(std::string_view text, std::string_view what);

}  // namespace moegen
