#pragma once

#include "kernels/functions.h"

namespace moegen {

/// The AVX2 path, but for its GEMM: that of the matrix unit, over tiles in plain C++.
const Kernels& plain_tiles_kernels();
/// The AVX512-BF16 path, its own instructions emulated. Needs AVX-512.
const Kernels& emulated_bf16_kernels();

}  // namespace moegen
