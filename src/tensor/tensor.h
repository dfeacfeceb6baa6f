#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace moegen {

/// A weight in memory, not owned: row-major [rows, cols]; a vector has one row. In f8_e4m3 and f4 a value is code * its block's scale, in i4 and u8
/// (code - zero) * scale, both of its group.
struct TensorView {
  const void* data = nullptr;
  DType dtype = DType::bf16;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t first = 0;  ///< row r is row first + r * step of what lies at `data`: two weights may share a matrix
  int64_t step = 1;
  /// Of what lies at `data`. f8_e4m3: floats [ceil(rows / block_rows), ceil(cols / group)], the last block of either may be partial; f4: f8_e8m0
  /// [rows, cols / 32]; i4, u8: `scale_dtype` [rows, cols / group].
  const void* scales = nullptr;
  DType scale_dtype = DType::bf16;
  const uint8_t* zeros = nullptr;  ///< i4, u8: [rows, cols / group]; null: all 8, or all 128
  int64_t group = 0;               ///< neighbours in a row that share a scale
  int64_t block_rows = 1;          ///< f8_e4m3: rows that do

  explicit operator bool() const { return data != nullptr; }
};

}  // namespace moegen
