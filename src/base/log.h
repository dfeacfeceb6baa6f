#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <utility>

#include "base/error.h"

namespace moegen {

/// One line for the person who started the run, on stderr. stdout belongs to results.
template <typename... Args>
void log_line(fmt::format_string<Args...> text, Args&&... args) {
  const std::string line = without_controls(fmt::format(text, std::forward<Args>(args)...)) + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace moegen
