#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "moegen/error.h"

namespace moegen {

struct GpuKernels;

/// The kernels of this module (kernels/cuda).
[[nodiscard]] const GpuKernels& cuda_kernels();
/// Whether the GPU in use can run them: the module has code for some architectures, or such that the driver translates.
[[nodiscard]] bool has_kernels();

/// Throws Error(io) with the driver's words.
inline void check_cuda(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw Error(ErrorCode::io, std::string("GPU: ") + what + ": " + cudaGetErrorString(error));
}

}  // namespace moegen
