#include "kernels/cpu/simd_avx512.h"
#include "kernels/cpu/vector_kernels.h"

namespace moegen {
namespace {

constexpr Kernels kTable{"avx512_bf16", gemm, rms_norm, rotate,  attention, expand_latents<gemm>, delta_tokens, silu_mul, clamped_swiglu,
                         gelu_mul,      axpy, convert,  maximum, exp_sum,   multiply_only};

}  // namespace

const Kernels& avx512_bf16_kernels() { return kTable; }

}  // namespace moegen
