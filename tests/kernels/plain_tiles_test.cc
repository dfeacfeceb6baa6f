// The GEMM of the matrix unit over tiles in plain C++: KernelsTest runs it as a path of its own, on processors that have no such unit.
#include "tests/kernels/plain_tiles.h"

#include "kernels/cpu/simd_avx2.h"
#include "kernels/cpu/tile_gemm.h"
#include "kernels/cpu/vector_kernels.h"

namespace moegen {
namespace {

constexpr Kernels kTable{"plain_tiles", tile_gemm<PlainTiles>, rms_norm, rotate, attention, silu_mul, axpy, convert, maximum, exp_sum, multiply_only};

}  // namespace

const Kernels& plain_tiles_kernels() { return kTable; }

}  // namespace moegen
