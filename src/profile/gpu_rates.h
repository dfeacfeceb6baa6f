#pragma once

#include "device/device.h"
#include "plan/machine.h"
#include "profile/sampling.h"
#include "profile/shapes.h"

namespace moegen {

/// What a GPU is measured for. `memory`: bytes of it that weights and pages go through; 0: a quarter of what is free, 512 MiB at most.
struct GpuProfileInput {
  const ModelShapes& shapes;
  DType act = DType::bf16;
  DType kv_dtype = DType::bf16;
  uint64_t memory = 0;
  Effort effort;
};

struct GpuRates {
  Machine::Gpu gpu;
  Machine::Link link;
};

/// The rates that a plan wants, with the copies and kernels of a run: the link each way and both at once, in pieces as weights cross it; an expert's
/// products over its tokens, weights cold in cache; one row through a large matrix, which is what device memory gives; attention of prompts and of
/// generated tokens. Throws Error(out_of_memory) where the memory does not hold two experts of 32 columns.
[[nodiscard]] GpuRates measure_gpu(Device& device, const GpuProfileInput& input);

/// FLOP/s of a product of square matrices, as large as takes a millisecond, or 8,192: what the library that multiplies gives at most.
[[nodiscard]] double gpu_multiply_rate(Device& device, DType act);

}  // namespace moegen
