#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>

namespace moegen {

[[noreturn]] inline void check_failed(const char* file, int line, const char* what) {
  fmt::print(stderr, "{}:{}: this is a bug in moegen: {} does not hold\n", file, line, what);
  std::abort();
}

}  // namespace moegen

/// For our own bugs only, in every build: bad input, files and machines throw Error.
#define MOEGEN_CHECK(condition) ((condition) ? static_cast<void>(0) : ::moegen::check_failed(__FILE__, __LINE__, #condition))
