#pragma once

#include <fmt/format.h>

#include <utility>

#include "moegen/error.h"

namespace moegen {

/// throw_error(ErrorCode::io, "{}: {}", path, cause)
template <typename... Args>
[[noreturn]] void throw_error(ErrorCode code, fmt::format_string<Args...> text, Args&&... args) {
  throw Error(code, fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace moegen
