#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

#include "moegen/error.h"

namespace moegen {

/// What a terminal would take for a command becomes a question mark: names and ids come from files of others.
inline std::string without_controls(std::string text) {
  for (char& c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f) c = '?';
  }
  return text;
}

/// throw_error(ErrorCode::io, "{}: {}", path, cause)
template <typename... Args>
[[noreturn]] void throw_error(ErrorCode code, fmt::format_string<Args...> text, Args&&... args) {
  throw Error(code, without_controls(fmt::format(text, std::forward<Args>(args)...)));
}

}  // namespace moegen
