// The GEMM of the matrix unit over tiles in plain C++: KernelsTest runs it as a path of its own, on processors that have no such unit.
#include "tests/kernels/plain_tiles.h"

#include "kernels/cpu/simd_avx2.h"
#include "kernels/cpu/tile_gemm.h"
#include "kernels/cpu/vector_kernels.h"

namespace moegen {
namespace {

// Tiles in plain C++, as the manual defines TDPBF16PS: even and odd elements are summed apart over the 32 of a tile, then added.
struct PlainTiles {
  template <int kPanels>
  static void multiply(const bf16* weights, const bf16* packed, int64_t panel_stride, int64_t steps, float* total, int64_t total_stride, bool first) {
    for (int64_t i = 0; i < kTileCols; ++i) {
      for (int64_t j = 0; j < kPanels * kPanel; ++j) {
        float sum = first ? 0 : total[i * total_stride + j];
        for (int64_t s = 0; s < steps; ++s) {
          const bf16* w = weights + (s * kTileCols + i) * kTileElements;
          const bf16* x = packed + j / kPanel * panel_stride + s * kTileElements * kPanel + j % kPanel * 2;
          float even = 0;
          float odd = 0;
          for (int64_t k = 0; k < kTileElements; k += 2) {
            even = __builtin_fmaf(to_float(w[k]), to_float(x[k * kPanel]), even);
            odd = __builtin_fmaf(to_float(w[k + 1]), to_float(x[k * kPanel + 1]), odd);
          }
          sum += even + odd;
        }
        total[i * total_stride + j] = sum;
      }
    }
  }
};

constexpr Kernels kTable{"plain_tiles",  tile_gemm<PlainTiles>,
                         rms_norm,       rotate,
                         attention,      expand_latents<tile_gemm<PlainTiles>>,
                         delta_tokens,   silu_mul,
                         clamped_swiglu, gelu_mul,
                         axpy,           convert,
                         maximum,        exp_sum,
                         multiply_only};

}  // namespace

const Kernels& plain_tiles_kernels() { return kTable; }

}  // namespace moegen
