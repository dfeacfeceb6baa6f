#include "bench/setup.h"

#include <charconv>

#include "base/error.h"
#include "base/size.h"
#include "memory/mapped_memory.h"

namespace moegen {
namespace {

DType parse_dtype(const std::string& name) {
  if (name == "bfloat16") return DType::bf16;
  if (name == "float32") return DType::f32;
  throw_error(ErrorCode::invalid_argument, "--dtype {}: expected bfloat16 or float32", name);
}

int check_threads(int threads) {
  if (threads < 0 || threads > 1024) throw_error(ErrorCode::invalid_argument, "--threads {}: expected 1 to 1024", threads);
  return threads > 0 ? threads : usable_cores();
}

int check_samples(int samples) {
  if (samples < 1 || samples > 1000) throw_error(ErrorCode::invalid_argument, "--samples {}: expected 1 to 1000", samples);
  return samples;
}

// The number that fills [begin, end), or 0.
int whole_number(const char* begin, const char* end) {
  int value = 0;
  const auto [at, error] = std::from_chars(begin, end, value);
  return error == std::errc() && at == end ? value : 0;
}

}  // namespace

BenchSetup::BenchSetup(const BenchOptions& options, const std::string& dtype_name)
    : kernels(select_kernels(options.cpu_path)),
      dtype(parse_dtype(dtype_name)),
      pool(check_threads(options.threads)),
      memory_bytes(check_memory(options.memory)),
      samples(check_samples(options.samples)) {}

void check_common(const BenchOptions& options) {
  static_cast<void>(check_threads(options.threads));
  static_cast<void>(check_memory(options.memory));
  static_cast<void>(check_samples(options.samples));
}

uint64_t check_memory(uint64_t bytes) {
  constexpr uint64_t kLeast = 1 << 20;
  if (bytes == 0) return cold_bytes();
  if (bytes < kLeast) throw_error(ErrorCode::invalid_argument, "--memory {}: at least 1 MiB is needed to measure anything", bytes);
  const uint64_t available = available_host_memory();
  if (bytes > available)
    throw_error(ErrorCode::out_of_memory, "--memory {}: only {} are available here", format_bytes(bytes), format_bytes(available));
  return bytes;
}

void check_values(const char* option, const std::vector<int64_t>& values, int64_t high) {
  for (const int64_t value : values) {
    if (value < 1 || value > high) throw_error(ErrorCode::invalid_argument, "{} {}: expected 1 to {}", option, value, high);
  }
}

std::pair<int, int> parse_pair(const char* option, const std::string& text, char separator, const std::string& expected) {
  constexpr int kMost = 1 << 17;
  const size_t at = text.find(separator);
  if (at != std::string::npos) {
    const int first = whole_number(text.data(), text.data() + at);
    const int second = whole_number(text.data() + at + 1, text.data() + text.size());
    if (first > 0 && second > 0 && first <= kMost && second <= kMost) return {first, second};
  }
  throw_error(ErrorCode::invalid_argument, "{} {}: expected {}", option, text, expected);
}

}  // namespace moegen
