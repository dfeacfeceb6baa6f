#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace moegen {

/// A weight in memory, not owned: row-major [rows, cols]; a vector has one row.
struct TensorView {
  const void* data = nullptr;
  DType dtype = DType::bf16;
  int64_t rows = 0;
  int64_t cols = 0;

  explicit operator bool() const { return data != nullptr; }
};

}  // namespace moegen
