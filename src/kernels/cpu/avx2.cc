#include "kernels/cpu/simd_avx2.h"
#include "kernels/cpu/vector_kernels.h"

namespace moegen {
namespace {

constexpr Kernels kTable{"avx2",   gemm, rms_norm, rotate,  attention, expand_latents<gemm>, delta_tokens, silu_mul, clamped_swiglu,
                         gelu_mul, axpy, convert,  maximum, exp_sum,   multiply_only};

}  // namespace

const Kernels& avx2_kernels() { return kTable; }

}  // namespace moegen
