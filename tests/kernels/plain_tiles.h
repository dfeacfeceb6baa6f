#pragma once

#include "kernels/functions.h"

namespace moegen {

/// The AVX2 path, but for its GEMM: that of the matrix unit, over tiles in plain C++.
const Kernels& plain_tiles_kernels();

}  // namespace moegen
