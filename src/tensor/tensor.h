#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace moegen {

/// A weight in memory, not owned: row-major [rows, cols]; a vector has one row. In f8_e4m3, f4 and i4 a value is code * its block's scale.
struct TensorView {
  const void* data = nullptr;
  DType dtype = DType::bf16;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t first = 0;  ///< row r is row first + r * step of what lies at `data`: two weights may share a matrix
  int64_t step = 1;
  /// Of what lies at `data`. f8_e4m3: floats [ceil(rows / 128), ceil(cols / 128)], the last block of either may be partial; f4: f8_e8m0
  /// [rows, cols / 32]; i4: bf16 [rows, cols / group].
  const void* scales = nullptr;
  int64_t group = 0;  ///< i4: neighbours in a row that share a scale

  explicit operator bool() const { return data != nullptr; }
};

}  // namespace moegen
