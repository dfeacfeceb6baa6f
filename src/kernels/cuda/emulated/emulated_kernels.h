#pragma once

#include "kernels/gpu_functions.h"

namespace moegen {

/// The kernels of kernels/cuda, compiled for and run on the CPU, for an EmulatedDevice; products are one chain of multiply-adds along k.
[[nodiscard]] const GpuKernels& emulated_kernels();

}  // namespace moegen
