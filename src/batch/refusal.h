#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include "moegen/request.h"

namespace moegen {

/// HTTP status of a line that holds no request: it is answered with `response: null`.
inline constexpr int kUnreadable = 0;

/// Ends the message of the error of a last line that is no request and has no line feed: a run that resumes does not keep that answer, since the
/// input may have been cut off, or was still written.
inline constexpr std::string_view kInputEndsWithin = "; the input ends within it";

/// Thrown where a line cannot be run, caught where its answer is written.
struct Refusal {
  RequestError error;
};

template <typename... Args>
[[noreturn]] void refuse(std::string_view code, std::string_view param, fmt::format_string<Args...> text, Args&&... args) {
  throw Refusal{{std::string(code), fmt::format(text, std::forward<Args>(args)...), std::string(param), 400}};
}

}  // namespace moegen
