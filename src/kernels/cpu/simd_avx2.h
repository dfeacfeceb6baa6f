#pragma once

#include <immintrin.h>

#include "base/dtype.h"
#include "kernels/cpu/first_bytes.h"

// Vectors of the AVX2 path: any x86-64-v3. Local to the file that includes it, as in simd_avx512.h.
namespace moegen {
namespace {

struct Simd {
  using V = __m256;
  struct Pairs {
    V even, odd;
  };
  struct Two {
    V low, high;
  };
  static constexpr int64_t kWidth = 8;
  static constexpr int kAttentionRows = 4;
  static constexpr int kGemmSums = 12;     // accumulators of a tile
  static constexpr int kFewSums = 8;       // that leave room to turn weights
  static constexpr int kFewCodedRows = 2;  // that leave room to expand codes
  static constexpr int kFewTurns = 1;
  static constexpr bool kMultipliesPairs = false;

  static V zero() { return _mm256_setzero_ps(); }
  static V set(float x) { return _mm256_set1_ps(x); }
  static V widen(__m128i half) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16)); }
  static V load(const float* p) { return _mm256_loadu_ps(p); }
  static V load(const bf16* p) { return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static V load(const f16* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  // e4m3, over kF8Unit: as f16, to which only the bits have to be moved. The carry out of 0x7f makes it a NaN there too.
  static __m256i halves(__m128i codes) {
    const __m256i moved = _mm256_slli_epi16(_mm256_cvtepi8_epi16(codes), 7);
    const __m256i carry = _mm256_add_epi16(_mm256_and_si256(moved, _mm256_set1_epi16(0x3f80)), _mm256_set1_epi16(0x80));
    const __m256i bit = _mm256_set1_epi16(0x4000);  // is the carry's
    return _mm256_or_si256(_mm256_and_si256(carry, bit), _mm256_andnot_si256(bit, moved));
  }
  static V load(const f8_e4m3* p) { return _mm256_cvtph_ps(_mm256_castsi256_si128(halves(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))); }
  static Two load_two(const f8_e4m3* p) {
    const __m256i h = halves(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return {_mm256_cvtph_ps(_mm256_castsi256_si128(h)), _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1))};
  }
  static V load(const f8_e4m3* p, int64_t n) { return load_two(p, n).low; }
  static Two load_two(const f8_e4m3* p, int64_t n) {
    alignas(16) f8_e4m3 padded[16] = {};
    for (int64_t i = 0; i < n; ++i) padded[i] = p[i];
    return load_two(padded);
  }
  // e2m1, doubled: whole numbers, by a table of 16 bytes. Eight codes, of which each byte has two, low first.
  static V load_codes(__m128i codes) {
    const __m128i doubled = _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_shuffle_epi8(doubled, codes)));
  }
  static __m128i split_codes(__m128i pairs) {
    const __m128i low = _mm_set1_epi8(15);
    return _mm_unpacklo_epi8(_mm_and_si128(pairs, low), _mm_and_si128(_mm_srli_epi16(pairs, 4), low));
  }
  static V load(const f4_pair* p) {
    int pairs;
    __builtin_memcpy(&pairs, p, sizeof(pairs));
    return load_codes(split_codes(_mm_cvtsi32_si128(pairs)));
  }
  static Two load_two(const f4_pair* p) {
    const __m128i codes = split_codes(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return {load_codes(codes), load_codes(_mm_unpackhi_epi64(codes, codes))};
  }
  static V load_bytes(__m128i codes) { return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(codes)); }
  static V load(const u8_code* p) { return load_bytes(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
  static Two load_two(const u8_code* p) { return {load(p), load(p + 8)}; }
  static V load(const i4_pair* p) {
    int pairs;
    __builtin_memcpy(&pairs, p, sizeof(pairs));
    return load_bytes(split_codes(_mm_cvtsi32_si128(pairs)));
  }
  static Two load_two(const i4_pair* p) {
    const __m128i codes = split_codes(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return {load_bytes(codes), load_bytes(_mm_unpackhi_epi64(codes, codes))};
  }
  using Ints = __m256i;
  // kBytes (4, 8 or 16) of 8 rows: words[i] has the i-th word of each, or zeros.
  template <int kBytes>
  [[gnu::always_inline]] static void turn_words(const void* const* rows, Ints* words) {
    Ints two[4], four[4];
    for (int i = 0; i < 4; ++i)
      two[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(first_bytes<kBytes>(rows[i])), first_bytes<kBytes>(rows[i + 4]), 1);
    for (int i = 0; i < 4; i += 2) {
      four[i] = _mm256_unpacklo_epi32(two[i], two[i + 1]);
      four[i + 1] = _mm256_unpackhi_epi32(two[i], two[i + 1]);
    }
    for (int i = 0; i < 2; ++i) {
      words[2 * i] = _mm256_unpacklo_epi64(four[i], four[i + 2]);
      words[2 * i + 1] = _mm256_unpackhi_epi64(four[i], four[i + 2]);
    }
  }
  static V byte_of(Ints words, int place) {
    return _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srlv_epi32(words, _mm256_set1_epi32(8 * place)), _mm256_set1_epi32(255)));
  }
  // Codes of kBits from words, with 2^23 added.
  template <int kBits>
  struct Codes {
    static constexpr int kInWord = 32 / kBits;
    static constexpr int kInHalf = kInWord / 2;
    template <int kPlace>
    static V one(Ints words) {
      const Ints half = kPlace < kInHalf ? words : _mm256_srli_epi32(words, 16);
      const Ints code = _mm256_and_si256(half, _mm256_set1_epi32(((1 << kBits) - 1) << kPlace % kInHalf * kBits));
      return _mm256_castsi256_ps(_mm256_or_si256(code, _mm256_set1_epi32(0x4b000000)));
    }
  };
  // e4m3 from words, over 2^120: the bits have to be moved.
  struct F8Codes {
    static constexpr int kInWord = 4;
    template <int kPlace>
    static V one(Ints words) {
      const Ints top = kPlace == 3 ? words : _mm256_slli_epi32(words, 24 - 8 * kPlace);
      return _mm256_castsi256_ps(_mm256_and_si256(_mm256_srai_epi32(top, 4), _mm256_set1_epi32(static_cast<int>(0x87f00000U))));
    }
  };
  // Whether one of the bytes is 0x7f, but for its sign.
  static bool any_nan(const Ints* words) {
    const Ints nan = _mm256_set1_epi8(0x7f);
    Ints any = _mm256_setzero_si256();
    for (int i = 0; i < 4; ++i) any = _mm256_or_si256(any, _mm256_cmpeq_epi8(_mm256_and_si256(words[i], nan), nan));
    return _mm256_testz_si256(any, any) == 0;
  }
  // Whether all are 0, or their magnitude is from `least` to `most`.
  static bool all_plain(V x, float least, float most) {
    const V magnitude = _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)));
    const V within = _mm256_and_ps(_mm256_cmp_ps(magnitude, set(least), _CMP_GE_OQ), _mm256_cmp_ps(magnitude, set(most), _CMP_LE_OQ));
    return _mm256_movemask_ps(_mm256_or_ps(within, _mm256_cmp_ps(x, zero(), _CMP_EQ_OQ))) == 0xff;
  }
  static __m256i mask(int64_t n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
  static V load(const float* p, int64_t n) { return _mm256_maskload_ps(p, mask(n)); }
  template <typename Half>
  static V load_halves(const Half* p, int64_t n) {
    alignas(16) Half padded[8] = {};
    for (int64_t i = 0; i < n; ++i) padded[i] = p[i];
    return load(padded);
  }
  static V load(const bf16* p, int64_t n) { return load_halves(p, n); }
  static V load(const f16* p, int64_t n) { return load_halves(p, n); }
  // 32 bytes as they are, of which n elements are there.
  static V load_raw(const float* p) { return load(p); }
  static V load_raw(const bf16* p) { return _mm256_loadu_ps(reinterpret_cast<const float*>(p)); }
  static V load_raw(const float* p, int64_t n) { return load(p, n); }
  static V load_raw(const bf16* p, int64_t n) {
    alignas(32) bf16 padded[16] = {};
    for (int64_t i = 0; i < n; ++i) padded[i] = p[i];
    return load_raw(padded);
  }
  // Pairs of bf16, apart: floats after one shift or one mask.
  static Pairs split(V raw) {
    const __m256i v = _mm256_castps_si256(raw);
    return {_mm256_castsi256_ps(_mm256_slli_epi32(v, 16)),
            _mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32(static_cast<int>(0xffff0000U))))};
  }
  // Pairs of f16 in words, likewise.
  static Pairs split_f16(Ints words) {
    const auto floats = [](Ints x) {  // f16 lie in the lower halves of words, four in each half
      const Ints packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(x, x), 0x08);
      return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
    };
    return {floats(_mm256_and_si256(words, _mm256_set1_epi32(0xffff))), floats(_mm256_srli_epi32(words, 16))};
  }
  static Pairs load_pairs(const bf16* p) { return split(load_raw(p)); }
  static Pairs load_pairs(const bf16* p, int64_t n) { return split(_mm256_maskload_ps(reinterpret_cast<const float*>(p), mask(n))); }
  static Pairs load_pairs(const int8_t* p) { return split_bytes(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static Pairs load_pairs(const int8_t* p, int64_t n) {
    alignas(16) int8_t padded[16] = {};
    for (int64_t i = 0; i < 2 * n; ++i) padded[i] = p[i];
    return load_pairs(padded);
  }
  static Pairs split_bytes(__m128i pairs) {
    const __m256i v = _mm256_cvtepi16_epi32(pairs);
    return {_mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(v, 24), 24)), _mm256_cvtepi32_ps(_mm256_srai_epi32(v, 8))};
  }
  // To nearest, ties to even; a NaN stays one.
  static __m128i narrow(V x) {
    const __m256i u = _mm256_castps_si256(x);
    const __m256i high = _mm256_srli_epi32(u, 16);
    const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const __m256i chosen = _mm256_blendv_epi8(rounded, quiet, nan);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(chosen, chosen), 0xd8);
    return _mm256_castsi256_si128(packed);
  }
  // As bf16, in the order of memory.
  static V pack(Two x) { return _mm256_castsi256_ps(_mm256_set_m128i(narrow(x.high), narrow(x.low))); }
  static void store(float* p, V x) { _mm256_storeu_ps(p, x); }
  static void store(bf16* p, V x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(x)); }
  static void store(float* p, V x, int64_t n) { _mm256_maskstore_ps(p, mask(n), x); }
  static void store(bf16* p, V x, int64_t n) {
    alignas(16) bf16 padded[8];
    store(padded, x);
    for (int64_t i = 0; i < n; ++i) p[i] = padded[i];
  }
  static V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  static V add(V a, V b) { return _mm256_add_ps(a, b); }
  static V sub(V a, V b) { return _mm256_sub_ps(a, b); }
  static V mul(V a, V b) { return _mm256_mul_ps(a, b); }
  static V div(V a, V b) { return _mm256_div_ps(a, b); }
  static V max(V a, V b) { return _mm256_max_ps(a, b); }
  static V min(V a, V b) { return _mm256_min_ps(a, b); }
  // Lanes from n on take `other`.
  static V keep(V x, int64_t n, V other) { return _mm256_blendv_ps(other, x, _mm256_castsi256_ps(mask(n))); }
  static V round(V x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  // x * 2^n for a whole n in [-252, 252], in two steps, so that subnormal results round once.
  static V scale2(V x, V n) {
    const __m256i whole = _mm256_cvtps_epi32(n);
    const __m256i half = _mm256_srai_epi32(whole, 1);
    const auto power = [](__m256i e) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(e, _mm256_set1_epi32(127)), 23)); };
    return _mm256_mul_ps(_mm256_mul_ps(x, power(half)), power(_mm256_sub_epi32(whole, half)));
  }
  // Of x, where `test` is below the limit, 0.
  static V zero_below(V test, V limit, V x) { return _mm256_and_ps(x, _mm256_cmp_ps(test, limit, _CMP_NLT_UQ)); }
  // One order for ever: halves onto halves.
  static float sum(V x) {
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps(c, c, 1)));
  }
  // Rows become columns: of 2 x 2, then of 4 x 4 in each half, then the halves.
  [[gnu::always_inline]] static void transpose(V* x) {
    V y[8];
    for (int i = 0; i < 8; i += 2) {
      y[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
      y[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
      for (int j = 0; j < 2; ++j) {
        const __m256d a = _mm256_castps_pd(y[i + j]), b = _mm256_castps_pd(y[i + j + 2]);
        x[i + 2 * j] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
        x[i + 2 * j + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
      }
    }
    for (int i = 0; i < 4; ++i) {
      const V a = x[i], b = x[i + 4];
      x[i] = _mm256_permute2f128_ps(a, b, 0x20);
      x[i + 4] = _mm256_permute2f128_ps(a, b, 0x31);
    }
  }
  // Of four rows 4 x 4 elements become columns, in each half.
  [[gnu::always_inline]] static void turn_four(V* x) {
    const V a = _mm256_unpacklo_ps(x[0], x[1]), b = _mm256_unpackhi_ps(x[0], x[1]);
    const V c = _mm256_unpacklo_ps(x[2], x[3]), d = _mm256_unpackhi_ps(x[2], x[3]);
    const __m256d e = _mm256_castps_pd(a), f = _mm256_castps_pd(b), g = _mm256_castps_pd(c), h = _mm256_castps_pd(d);
    x[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(e, g));
    x[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(e, g));
    x[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(f, h));
    x[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(f, h));
  }
  // 2 x 2 lanes of four floats: lane i of vector j becomes lane j of vector i.
  [[gnu::always_inline]] static void turn_lanes(V* x) {
    const V a = x[0];
    x[0] = _mm256_permute2f128_ps(a, x[1], 0x20);
    x[1] = _mm256_permute2f128_ps(a, x[1], 0x31);
  }
  static float largest(V x) {
    const __m128 b = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_shuffle_ps(c, c, 1)));
  }
};

}  // namespace
}  // namespace moegen

#include "kernels/cpu/operands.h"  // over the Simd above
