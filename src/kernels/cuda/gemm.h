#pragma once

#include "kernels/gpu_functions.h"

namespace moegen {

/// GpuKernels::gemm by cuBLASLt. The algorithm of a shape [n, k] is chosen once, for many rows, without split sums, and used for any number of rows:
/// a row's bits do not depend on the rows beside it as far as cuBLASLt's tiles do not.
void cuda_gemm(Device& device, const Stream& stream, const GpuGemm& op);

}  // namespace moegen
