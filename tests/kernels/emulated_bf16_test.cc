// The AVX512-BF16 path with its three instructions, and two of VBMI, in plain AVX-512 and C++: KernelsTest runs it as a path of its own, on
// processors that lack them. As the manual defines them, subnormals count as zero, and each of the two products of a pair is added with one rounding.
#include <immintrin.h>

#include <array>
#include <bit>
#include <cstdint>

#include "tests/kernels/plain_tiles.h"

namespace moegen {
namespace {

inline __m512 flushed(__m512 x) {
  const __m512i magnitude = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
  return _mm512_mask_mov_ps(x, _mm512_cmplt_epu32_mask(magnitude, _mm512_set1_epi32(0x00800000)), _mm512_setzero_ps());
}

inline __m256bh emulated_cvtneps_pbh(__m512 x) {
  const __m512i u = _mm512_castps_si512(flushed(x));
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i quiet = _mm512_or_si512(u, _mm512_set1_epi32(0x400000));
  const __m512i chosen = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), quiet);
  return std::bit_cast<__m256bh>(_mm512_cvtepi32_epi16(_mm512_srli_epi32(chosen, 16)));
}

inline __m512bh emulated_cvtne2ps_pbh(__m512 high, __m512 low) {
  return std::bit_cast<__m512bh>(_mm512_inserti64x4(_mm512_castsi256_si512(std::bit_cast<__m256i>(emulated_cvtneps_pbh(low))),
                                                    std::bit_cast<__m256i>(emulated_cvtneps_pbh(high)), 1));
}

inline __m512 emulated_dpbf16_ps(__m512 sum, __m512bh a, __m512bh b) {
  const auto even = [](__m512bh x) { return flushed(_mm512_castsi512_ps(_mm512_slli_epi32(std::bit_cast<__m512i>(x), 16))); };
  const auto odd = [](__m512bh x) {
    return flushed(_mm512_castsi512_ps(_mm512_and_si512(std::bit_cast<__m512i>(x), _mm512_set1_epi32(static_cast<int>(0xffff0000U)))));
  };
  sum = flushed(_mm512_fmadd_ps(odd(a), odd(b), flushed(sum)));
  return flushed(_mm512_fmadd_ps(even(a), even(b), sum));
}

using Bytes = std::array<uint8_t, 64>;

// Byte index[i] of both operands, the first of them first. All bytes are asked for.
inline __m512i emulated_permutex2var_epi8(__mmask64, __m512i a, __m512i index, __m512i b) {
  const std::array<Bytes, 2> from{std::bit_cast<Bytes>(a), std::bit_cast<Bytes>(b)};
  Bytes out = std::bit_cast<Bytes>(index);
  for (uint8_t& i : out) i = from[i >> 6 & 1][i & 63];
  return std::bit_cast<__m512i>(out);
}

// Of each eight bytes, as one number that is turned around, eight bits from bit[i] on.
inline __m512i emulated_multishift_epi64_epi8(__mmask64, __m512i bit, __m512i x) {
  const auto from = std::bit_cast<std::array<uint64_t, 8>>(x);
  Bytes out = std::bit_cast<Bytes>(bit);
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<uint8_t>(std::rotr(from[i / 8], out[i] & 63));
  return std::bit_cast<__m512i>(out);
}

}  // namespace
}  // namespace moegen

#define __AVX512BF16__ 1
#define _mm512_maskz_permutex2var_epi8 emulated_permutex2var_epi8
#define _mm512_maskz_multishift_epi64_epi8 emulated_multishift_epi64_epi8
#define _mm512_cvtneps_pbh emulated_cvtneps_pbh
#define _mm512_cvtne2ps_pbh emulated_cvtne2ps_pbh
#define _mm512_dpbf16_ps emulated_dpbf16_ps

#include "kernels/cpu/simd_avx512.h"
#include "kernels/cpu/vector_kernels.h"

namespace moegen {
namespace {

constexpr Kernels kTable{"emulated_bf16", gemm, rms_norm, rotate,  attention, expand_latents<gemm>, delta_tokens, silu_mul, clamped_swiglu,
                         gelu_mul,        axpy, convert,  maximum, exp_sum,   multiply_only};

}  // namespace

const Kernels& emulated_bf16_kernels() { return kTable; }

}  // namespace moegen
