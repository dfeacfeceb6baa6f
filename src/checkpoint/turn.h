#pragma once

#include <cstddef>
#include <cstdint>

namespace moegen {

/// A matrix whose columns become rows: `from` [cols, rows] to rows [begin, end) of `to` [rows, cols]. Elements have 1, 2 or 4 bytes, and may lie
/// anywhere. The two must not overlap.
struct Turn {
  const std::byte* from = nullptr;
  std::byte* to = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  size_t element_bytes = 0;
};
void turn(const Turn& op, int64_t begin, int64_t end);

}  // namespace moegen
