#pragma once

#include <string>

#include "base/thread_pool.h"
#include "kernels/functions.h"
#include "moegen/bench.h"
#include "profile/roofs.h"

namespace moegen {

/// What the options of a measurement come to. Throws Error(invalid_argument or out_of_memory).
struct BenchSetup {
  BenchSetup(const BenchOptions& options, const std::string& dtype_name);

  const Kernels& kernels;
  DType dtype;
  ThreadPool pool;
  uint64_t memory_bytes;
  int samples;
};

/// Throws as BenchSetup does.
void check_common(const BenchOptions& options);

/// `bytes` of --memory, or what --memory is by itself for 0. Throws Error(invalid_argument) if too few, Error(out_of_memory) if they are not there.
[[nodiscard]] uint64_t check_memory(uint64_t bytes);

/// Throws Error(invalid_argument) naming `option` for a value outside of [1, high].
void check_values(const char* option, const std::vector<int64_t>& values, int64_t high);

/// "4096x14336" at 'x', two numbers of at least 1; throws Error(invalid_argument) saying what `option` expects.
[[nodiscard]] std::pair<int, int> parse_pair(const char* option, const std::string& text, char separator, const std::string& expected);

}  // namespace moegen
