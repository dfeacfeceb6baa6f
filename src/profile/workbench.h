#pragma once

#include "base/dtype.h"
#include "base/thread_pool.h"
#include "kernels/functions.h"
#include "memory/mapped_memory.h"

namespace moegen {

/// What steps are measured with. Owns nothing.
struct Workbench {
  const Kernels& kernels;
  ThreadPool& pool;
  DType act;                   ///< f32 or bf16
  DType weights;               ///< likewise, or f8_e4m3, f4, i4, u8
  const MappedMemory& memory;  ///< of random_memory(), more than caches hold: weights and KV pages lie in it
  int64_t group = 0;           ///< of i4 and u8

  [[nodiscard]] DType product_dtype() const { return act == DType::bf16 && weights != DType::f32 ? DType::bf16 : DType::f32; }
};

}  // namespace moegen
