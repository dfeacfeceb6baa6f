#pragma once

#include <immintrin.h>

#include <bit>

#include "base/dtype.h"
#include "kernels/cpu/first_bytes.h"

// Vectors of the AVX-512 path. Only included where the file is compiled for it; everything is local to that file, so that no
// function compiled for AVX-512 can take the place of a baseline one at link time.
namespace moegen {
namespace {

struct Simd {
  using V = __m512;
  struct Pairs {
    V even, odd;
  };
  struct Two {
    V low, high;
  };
  static constexpr int64_t kWidth = 16;
  static constexpr int kAttentionRows = 8;
  static constexpr int kGemmSums = 24;     // accumulators of a tile
  static constexpr int kFewSums = 16;      // that leave room to turn weights
  static constexpr int kFewCodedRows = 8;  // that leave room to expand codes
  static constexpr int kFewTurns = 2;      // weights are turned again for as many rows more; a third time costs more than it hides
#ifdef __AVX512BF16__
  static constexpr bool kMultipliesPairs = true;
#else
  static constexpr bool kMultipliesPairs = false;
#endif
  // g++ 12 warns of its own unmasked intrinsics (GCC bug 105593); with all lanes on these become the same instructions.
  static constexpr __mmask16 kAll = 0xffff;

  static __mmask16 mask(int64_t n) { return static_cast<__mmask16>((1U << n) - 1U); }
  static V zero() { return _mm512_setzero_ps(); }
  static V set(float x) { return _mm512_set1_ps(x); }
  static V widen(__m256i half) { return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(kAll, _mm512_maskz_cvtepu16_epi32(kAll, half), 16)); }
  static V load(const float* p) { return _mm512_loadu_ps(p); }
  static V load(const bf16* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static V load(const f16* p) { return _mm512_maskz_cvtph_ps(kAll, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  // e4m3, over kF8Unit: as f16, to which only the bits have to be moved. The carry out of 0x7f makes it a NaN there too.
  static __m512i halves(__m256i codes) {
    const __m512i moved = _mm512_maskz_slli_epi16(~__mmask32{0}, _mm512_maskz_cvtepi8_epi16(~__mmask32{0}, codes), 7);
    const __m512i carry = _mm512_add_epi16(_mm512_and_si512(moved, _mm512_set1_epi16(0x3f80)), _mm512_set1_epi16(0x80));
    return _mm512_ternarylogic_epi32(_mm512_set1_epi16(0x4000), carry, moved, 0xca);  // bit 14 is the carry's
  }
  static Two load_two_codes(__m256i codes) {
    const __m512i h = halves(codes);
    return {_mm512_maskz_cvtph_ps(kAll, _mm512_maskz_extracti64x4_epi64(0xff, h, 0)),
            _mm512_maskz_cvtph_ps(kAll, _mm512_maskz_extracti64x4_epi64(0xff, h, 1))};
  }
  static V load_codes(__m128i codes) { return load_two_codes(_mm256_castsi128_si256(codes)).low; }
  static V load(const f8_e4m3* p) { return load_codes(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static V load(const f8_e4m3* p, int64_t n) { return load_codes(_mm_maskz_loadu_epi8(mask(n), p)); }
  static Two load_two(const f8_e4m3* p) { return load_two_codes(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static Two load_two(const f8_e4m3* p, int64_t n) {
    return load_two_codes(_mm256_maskz_loadu_epi8(static_cast<__mmask32>((uint64_t{1} << n) - 1), p));
  }
  using Ints = __m512i;
  static Ints as_ints(V x) { return _mm512_castps_si512(x); }
  // kBytes (4, 8 or 16) of 16 rows: words[i] has the i-th word of each, or zeros.
  template <int kBytes>
  [[gnu::always_inline]] static void turn_words(const void* const* rows, Ints* words) {
    const auto load = [&](int i) { return first_bytes<kBytes>(rows[i]); };
    __m512i four[4], eight[4];
    for (int i = 0; i < 4; ++i) {
      const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(load(i)), load(i + 4), 1);
      const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(load(i + 8)), load(i + 12), 1);
      four[i] = _mm512_maskz_inserti64x4(0xff, _mm512_castsi256_si512(low), high, 1);
    }
    for (int i = 0; i < 4; i += 2) {
      eight[i] = _mm512_maskz_unpacklo_epi32(kAll, four[i], four[i + 1]);
      eight[i + 1] = _mm512_maskz_unpackhi_epi32(kAll, four[i], four[i + 1]);
    }
    for (int i = 0; i < 2; ++i) {
      words[2 * i] = _mm512_maskz_unpacklo_epi64(0xff, eight[i], eight[i + 2]);
      words[2 * i + 1] = _mm512_maskz_unpackhi_epi64(0xff, eight[i], eight[i + 2]);
    }
  }
  // Codes of kBits from words. They stay at their place in one half of the word, with 2^23 added: that is faster than to move each.
  template <int kBits>
  struct Codes {
    static constexpr int kInWord = 32 / kBits;
    static constexpr int kInHalf = kInWord / 2;
    static V above(Ints x, Ints mask) { return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(x, mask, _mm512_set1_epi32(0x4b000000), 0xea)); }
    static Ints half(Ints words, bool upper) { return upper ? _mm512_maskz_srli_epi32(kAll, words, 16) : words; }
    template <int kPlace>
    static V one(Ints words) {
      return above(half(words, kPlace >= kInHalf), _mm512_set1_epi32(((1 << kBits) - 1) << kPlace % kInHalf * kBits));
    }
    // Neighbours of words that are there twice.
    template <int kPair>
    static V pair(Ints words) {
      constexpr int kMask = ((1 << kBits) - 1) << 2 * kPair % kInHalf * kBits;
      return above(half(words, 2 * kPair >= kInHalf), alternating(kMask, kMask << kBits));
    }
  };
  // e4m3 from words, over 2^120: the bits have to be moved.
  struct F8Codes {
    static constexpr int kInWord = 4;
    static V moved(Ints top) {
      return _mm512_castsi512_ps(_mm512_and_si512(_mm512_maskz_srai_epi32(kAll, top, 4), _mm512_set1_epi32(static_cast<int>(0x87f00000U))));
    }
    template <int kPlace>
    static V one(Ints words) {
      return moved(kPlace == 3 ? words : _mm512_maskz_slli_epi32(kAll, words, 24 - 8 * kPlace));
    }
    template <int kPair>
    static V pair(Ints words) {
      return moved(_mm512_maskz_sllv_epi32(kAll, words, alternating(24 - 16 * kPair, 16 - 16 * kPair)));
    }
  };
#ifdef __AVX512BF16__
  // What codes of e4m3 without a sign are with a scale, as bf16: lower and upper bytes.
  struct F8Table {
    __m512i low[2], high[2];
  };
  static constexpr __mmask64 kAllBytes = ~__mmask64{0};
  // Bytes first, first + step, ..
  struct alignas(64) Bytes {
    uint8_t at[64];
    constexpr Bytes(int first, int step) : at() {
      for (int i = 0; i < 64; ++i) at[i] = static_cast<uint8_t>(first + step * i);
    }
    // Of two vectors bytes 4i + first and 4i + first + 1, for every i, side by side.
    constexpr explicit Bytes(int first) : at() {
      for (int i = 0; i < 64; ++i) at[i] = static_cast<uint8_t>(i / 4 * 4 + first + i % 4 / 2 + i % 2 * 64);
    }
    [[nodiscard]] __m512i load() const { return _mm512_load_si512(at); }
  };
  // `unit` is the scale times kF8Unit.
  static F8Table f8_table(V unit) {
    static constexpr Bytes kCodes{0, 1}, kLow{0, 2}, kHigh{1, 2};
    F8Table out;
    for (int i = 0; i < 2; ++i) {
      __m512i values[2];
      for (int half = 0; half < 2; ++half) {
        const __m256i codes = _mm256_load_si256(reinterpret_cast<const __m256i*>(kCodes.at + 32 * half));
        const Two two = load_two_codes(_mm256_or_si256(codes, _mm256_set1_epi8(static_cast<char>(64 * i))));
        values[half] = _mm512_castps_si512(pack({mul(two.low, unit), mul(two.high, unit)}));
      }
      out.low[i] = _mm512_maskz_permutex2var_epi8(kAllBytes, values[0], kLow.load(), values[1]);
      out.high[i] = _mm512_maskz_permutex2var_epi8(kAllBytes, values[0], kHigh.load(), values[1]);
    }
    return out;
  }
  // Codes of words as two lines of pairs.
  [[gnu::always_inline]] static Two f8_lines(const F8Table& t, Ints words) {
    static constexpr Bytes kFirst{0}, kSecond{2};
    const __m512i low = _mm512_maskz_permutex2var_epi8(kAllBytes, t.low[0], words, t.low[1]);
    const __m512i magnitude = _mm512_maskz_permutex2var_epi8(kAllBytes, t.high[0], words, t.high[1]);
    const __m512i high = _mm512_ternarylogic_epi32(magnitude, words, _mm512_set1_epi8(static_cast<char>(0x80)), 0x78);  // ^ (words & sign)
    return {_mm512_castsi512_ps(_mm512_maskz_permutex2var_epi8(kAllBytes, low, kFirst.load(), high)),
            _mm512_castsi512_ps(_mm512_maskz_permutex2var_epi8(kAllBytes, low, kSecond.load(), high))};
  }
#endif
  // e2m1 from words, doubled: an index has four bits.
  struct F4Codes {
    static constexpr int kInWord = 8;
    template <int kPlace>
    static V one(Ints words) {
      return _mm512_maskz_permutexvar_ps(kAll, kPlace == 0 ? words : _mm512_maskz_srli_epi32(kAll, words, kPlace * 4), e2m1_doubled());
    }
  };
  static V alternating(float even, float odd) { return _mm512_castsi512_ps(alternating(std::bit_cast<int>(even), std::bit_cast<int>(odd))); }
  static Ints alternating(int even, int odd) { return _mm512_set1_epi64(static_cast<int64_t>(odd) << 32 | even); }
  // Whether one of the bytes is 0x7f, but for its sign.
  static bool any_nan(const Ints* words) {
    const Ints nan = _mm512_set1_epi8(0x7f);
    __mmask64 any = 0;
    for (int i = 0; i < 4; ++i) any |= _mm512_cmpeq_epi8_mask(_mm512_and_si512(words[i], nan), nan);
    return any != 0;
  }
  // Whether all are 0, or their magnitude is from `least` to `most`.
  static bool all_plain(V x, float least, float most) {
    const V magnitude = _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff)));
    const __mmask16 within = _mm512_cmp_ps_mask(magnitude, set(least), _CMP_GE_OQ) & _mm512_cmp_ps_mask(magnitude, set(most), _CMP_LE_OQ);
    return (within | _mm512_cmp_ps_mask(x, zero(), _CMP_EQ_OQ)) == kAll;
  }
  // Each lane of the first, or of the second, half twice, side by side.
  template <int kHalf>
  static Ints twice(Ints x) {
    const Ints lanes = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_maskz_permutexvar_epi32(kAll, _mm512_add_epi32(lanes, _mm512_set1_epi32(8 * kHalf)), x);
  }
  template <int kHalf>
  static V twice(V x) {
    return _mm512_castsi512_ps(twice<kHalf>(_mm512_castps_si512(x)));
  }
  // e2m1, doubled: whole numbers. A byte has two codes, low first.
#ifdef __AVX512BF16__
  // As bf16, by a table that has them twice: an index has five bits.
  static __m512i bf16_codes() {
    const __m256i half =
        _mm256_setr_epi16(0, 0x3f00, 0x3f80, 0x3fc0, 0x4000, 0x4040, 0x4080, 0x40c0, static_cast<int16_t>(0x8000), static_cast<int16_t>(0xbf00),
                          static_cast<int16_t>(0xbf80), static_cast<int16_t>(0xbfc0), static_cast<int16_t>(0xc000), static_cast<int16_t>(0xc040),
                          static_cast<int16_t>(0xc080), static_cast<int16_t>(0xc0c0));
    return _mm512_maskz_broadcast_i64x4(0xff, half);
  }
  // Whether a product with 2^(scale - 127) is a normal number or zero: a sum in the exponent of all but zeros.
  static bool is_plain_scale(int scale) { return scale >= 2 && scale <= 252; }
  // 32 of them times a plain scale, as bf16.
  static V load_bf16(const f4_pair* p, int scale) {
    const __m512i values = bf16_codes();
    const __m512i scaled = _mm512_mask_add_epi16(values, 0xfefefefe, values, _mm512_set1_epi16(static_cast<int16_t>((scale - 127) * 128)));
    const __m512i pairs = _mm512_maskz_cvtepu8_epi32(kAll, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    const __m512i codes = _mm512_and_si512(_mm512_or_si512(pairs, _mm512_maskz_slli_epi32(kAll, pairs, 12)), _mm512_set1_epi32(0x000f000f));
    return _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(~__mmask32{0}, codes, scaled));
  }
  // The same, with so much added to all but zeros, of which there is one, that less a scale's offset (f4_scale) they are scaled, and 0 is still 0.
  static constexpr int16_t kF4Above = 0x3f00;
  static __m512i raised_codes() {
    const __m512i codes = bf16_codes();
    return _mm512_maskz_add_epi16(0xfefefefe, codes, _mm512_set1_epi16(kF4Above));
  }
  // Byte `place` of words as offsets of both halves of a word of pairs. False where a scale is not plain.
  static bool f4_scale(Ints words, int place, Ints& out) {
    const Ints exponents = _mm512_and_si512(_mm512_maskz_srlv_epi32(kAll, words, _mm512_set1_epi32(8 * place)), _mm512_set1_epi32(255));
    const Ints offsets = _mm512_sub_epi32(_mm512_set1_epi32(kF4Above + 127 * 128), _mm512_maskz_slli_epi32(kAll, exponents, 7));
    out = _mm512_mask_blend_epi16(0xaaaaaaaa, offsets, _mm512_maskz_slli_epi32(kAll, offsets, 16));
    return _mm512_cmpgt_epu32_mask(_mm512_sub_epi32(exponents, _mm512_set1_epi32(2)), _mm512_set1_epi32(250)) == 0;
  }
  // A pair of neighbours of words, scaled, as bf16.
  template <int kPair>
  [[gnu::always_inline]] static V f4_pair_line(Ints words, Ints offsets) {
    constexpr int64_t kFrom = 8 * kPair;  // the lowest bits of each half of a word are those of its code
    const Ints bits = _mm512_set1_epi64((kFrom + 36) << 48 | (kFrom + 32) << 32 | (kFrom + 4) << 16 | kFrom);
    const Ints codes = _mm512_maskz_multishift_epi64_epi8(kAllBytes, bits, words);
    const Ints x = _mm512_maskz_permutexvar_epi16(~__mmask32{0}, codes, raised_codes());
    return _mm512_castsi512_ps(_mm512_subs_epu16(x, offsets));
  }
#endif
  static V e2m1_doubled() { return _mm512_setr_ps(0, 1, 2, 3, 4, 6, 8, 12, -0.0F, -1, -2, -3, -4, -6, -8, -12); }
  static V load_e2m1(__m128i codes) { return _mm512_maskz_permutexvar_ps(kAll, _mm512_maskz_cvtepu8_epi32(kAll, codes), e2m1_doubled()); }
  static V load(const f4_pair* p) { return load_two_e2m1(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))).low; }
  static Two load_two(const f4_pair* p) { return load_two_e2m1(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static Two load_two_e2m1(__m128i pairs) {
    const __m128i low = _mm_and_si128(pairs, _mm_set1_epi8(15));
    const __m128i high = _mm_and_si128(_mm_srli_epi16(pairs, 4), _mm_set1_epi8(15));
    return {load_e2m1(_mm_unpacklo_epi8(low, high)), load_e2m1(_mm_unpackhi_epi8(low, high))};
  }
  static V byte_of(Ints words, int place) {
    return _mm512_maskz_cvtepi32_ps(kAll,
                                    _mm512_and_si512(_mm512_maskz_srlv_epi32(kAll, words, _mm512_set1_epi32(8 * place)), _mm512_set1_epi32(255)));
  }
  static V load_bytes(__m128i codes) { return _mm512_maskz_cvtepi32_ps(kAll, _mm512_maskz_cvtepu8_epi32(kAll, codes)); }
  static V load(const u8_code* p) { return load_bytes(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static Two load_two(const u8_code* p) { return {load(p), load(p + 16)}; }
  static V load(const i4_pair* p) { return load_two_i4(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))).low; }
  static Two load_two(const i4_pair* p) { return load_two_i4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static Two load_two_i4(__m128i pairs) {
    const __m128i low = _mm_and_si128(pairs, _mm_set1_epi8(15));
    const __m128i high = _mm_and_si128(_mm_srli_epi16(pairs, 4), _mm_set1_epi8(15));
    return {load_bytes(_mm_unpacklo_epi8(low, high)), load_bytes(_mm_unpackhi_epi8(low, high))};
  }
  static V load(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(mask(n), p); }
  static V load(const bf16* p, int64_t n) { return widen(_mm256_maskz_loadu_epi16(mask(n), p)); }
  static V load(const f16* p, int64_t n) { return _mm512_maskz_cvtph_ps(kAll, _mm256_maskz_loadu_epi16(mask(n), p)); }
  // 64 bytes as they are, of which n elements are there.
  static V load_raw(const float* p) { return load(p); }
  static V load_raw(const bf16* p) { return _mm512_loadu_ps(p); }
  static V load_raw(const float* p, int64_t n) { return load(p, n); }
  static V load_raw(const bf16* p, int64_t n) {
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(static_cast<__mmask32>((uint64_t{1} << n) - 1), p));
  }
  // Pairs of bf16, apart: floats after one shift or one mask.
  static Pairs split(V raw) {
    const __m512i v = _mm512_castps_si512(raw);
    return {_mm512_castsi512_ps(_mm512_maskz_slli_epi32(kAll, v, 16)),
            _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32(static_cast<int>(0xffff0000U))))};
  }
  // Pairs of f16 in words, likewise.
  static Pairs split_f16(Ints words) {
    const auto floats = [](Ints x) { return _mm512_maskz_cvtph_ps(kAll, _mm512_maskz_cvtepi32_epi16(kAll, x)); };
    return {floats(words), floats(_mm512_maskz_srli_epi32(kAll, words, 16))};
  }
  static Pairs load_pairs(const bf16* p) { return split(load_raw(p)); }
  static Pairs load_pairs(const bf16* p, int64_t n) { return split(load_raw(p, 2 * n)); }
  static Pairs load_pairs(const int8_t* p) { return split_bytes(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static Pairs load_pairs(const int8_t* p, int64_t n) { return split_bytes(_mm256_maskz_loadu_epi16(mask(n), p)); }
  static Pairs split_bytes(__m256i pairs) {
    const __m512i v = _mm512_maskz_cvtepi16_epi32(kAll, pairs);
    return {_mm512_maskz_cvtepi32_ps(kAll, _mm512_maskz_srai_epi32(kAll, _mm512_maskz_slli_epi32(kAll, v, 24), 24)),
            _mm512_maskz_cvtepi32_ps(kAll, _mm512_maskz_srai_epi32(kAll, v, 8))};
  }
  // To nearest, ties to even; a NaN stays one.
  static __m256i narrow(V x) {
    const __m512i u = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_maskz_srli_epi32(kAll, u, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_maskz_srli_epi32(kAll, _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    const __m512i quiet = _mm512_or_si512(_mm512_maskz_srli_epi32(kAll, u, 16), _mm512_set1_epi32(0x40));
    return _mm512_maskz_cvtepi32_epi16(kAll, _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), quiet));
  }
  // As bf16, in the order of memory.
  static V pack(Two x) {
#ifdef __AVX512BF16__
    return std::bit_cast<V>(_mm512_cvtne2ps_pbh(x.high, x.low));
#else
    return _mm512_castsi512_ps(_mm512_maskz_inserti64x4(0xff, _mm512_maskz_broadcast_i64x4(0xff, narrow(x.low)), narrow(x.high), 1));
#endif
  }
  static void store(float* p, V x) { _mm512_storeu_ps(p, x); }
  static void store(bf16* p, V x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(x)); }
  static void store(float* p, V x, int64_t n) { _mm512_mask_storeu_ps(p, mask(n), x); }
  static void store(bf16* p, V x, int64_t n) { _mm256_mask_storeu_epi16(p, mask(n), narrow(x)); }
  static V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  static V add(V a, V b) { return _mm512_add_ps(a, b); }
  static V sub(V a, V b) { return _mm512_sub_ps(a, b); }
  static V mul(V a, V b) { return _mm512_mul_ps(a, b); }
  static V div(V a, V b) { return _mm512_div_ps(a, b); }
  static V max(V a, V b) { return _mm512_maskz_max_ps(kAll, a, b); }
  static V min(V a, V b) { return _mm512_maskz_min_ps(kAll, a, b); }
  // Lanes from n on take `other`.
  static V keep(V x, int64_t n, V other) { return _mm512_mask_mov_ps(other, mask(n), x); }
  static V round(V x) { return _mm512_maskz_roundscale_ps(kAll, x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  // x * 2^n for a whole n; overflow and underflow as IEEE says.
  static V scale2(V x, V n) { return _mm512_maskz_scalef_ps(kAll, x, n); }
  // Of x, where `test` is below the limit, 0.
  static V zero_below(V test, V limit, V x) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(test, limit, _CMP_NLT_UQ), x); }
  // One order for ever: halves onto halves.
  static float sum(V x) {
    const __m256 a = _mm256_add_ps(_mm512_maskz_extractf32x8_ps(0xff, x, 0), _mm512_maskz_extractf32x8_ps(0xff, x, 1));
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps(c, c, 1)));
  }
  // Rows become columns: of 2 x 2, then of 4 x 4 in each quarter, then the quarters.
  [[gnu::always_inline]] static void transpose(V* x) {
    V y[16];
    for (int i = 0; i < 16; i += 2) {
      y[i] = _mm512_maskz_unpacklo_ps(kAll, x[i], x[i + 1]);
      y[i + 1] = _mm512_maskz_unpackhi_ps(kAll, x[i], x[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
      for (int j = 0; j < 2; ++j) {
        const __m512d a = _mm512_castps_pd(y[i + j]), b = _mm512_castps_pd(y[i + j + 2]);
        x[i + 2 * j] = _mm512_castpd_ps(_mm512_maskz_unpacklo_pd(0xff, a, b));
        x[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_maskz_unpackhi_pd(0xff, a, b));
      }
    }
    for (int i = 0; i < 4; ++i) {
      const V a = _mm512_maskz_shuffle_f32x4(kAll, x[i], x[i + 4], 0x88), b = _mm512_maskz_shuffle_f32x4(kAll, x[i], x[i + 4], 0xdd);
      const V c = _mm512_maskz_shuffle_f32x4(kAll, x[i + 8], x[i + 12], 0x88), d = _mm512_maskz_shuffle_f32x4(kAll, x[i + 8], x[i + 12], 0xdd);
      x[i] = _mm512_maskz_shuffle_f32x4(kAll, a, c, 0x88);
      x[i + 4] = _mm512_maskz_shuffle_f32x4(kAll, b, d, 0x88);
      x[i + 8] = _mm512_maskz_shuffle_f32x4(kAll, a, c, 0xdd);
      x[i + 12] = _mm512_maskz_shuffle_f32x4(kAll, b, d, 0xdd);
    }
  }
  // Of four rows 4 x 4 elements become columns, in each quarter.
  [[gnu::always_inline]] static void turn_four(V* x) {
    const V a = _mm512_maskz_unpacklo_ps(kAll, x[0], x[1]), b = _mm512_maskz_unpackhi_ps(kAll, x[0], x[1]);
    const V c = _mm512_maskz_unpacklo_ps(kAll, x[2], x[3]), d = _mm512_maskz_unpackhi_ps(kAll, x[2], x[3]);
    const __m512d e = _mm512_castps_pd(a), f = _mm512_castps_pd(b), g = _mm512_castps_pd(c), h = _mm512_castps_pd(d);
    x[0] = _mm512_castpd_ps(_mm512_maskz_unpacklo_pd(0xff, e, g));
    x[1] = _mm512_castpd_ps(_mm512_maskz_unpackhi_pd(0xff, e, g));
    x[2] = _mm512_castpd_ps(_mm512_maskz_unpacklo_pd(0xff, f, h));
    x[3] = _mm512_castpd_ps(_mm512_maskz_unpackhi_pd(0xff, f, h));
  }
  // 4 x 4 lanes of four floats: lane i of vector j becomes lane j of vector i.
  [[gnu::always_inline]] static void turn_lanes(V* x) {
    const V a = _mm512_maskz_shuffle_f32x4(kAll, x[0], x[1], 0x44), b = _mm512_maskz_shuffle_f32x4(kAll, x[0], x[1], 0xee);
    const V c = _mm512_maskz_shuffle_f32x4(kAll, x[2], x[3], 0x44), d = _mm512_maskz_shuffle_f32x4(kAll, x[2], x[3], 0xee);
    x[0] = _mm512_maskz_shuffle_f32x4(kAll, a, c, 0x88);
    x[1] = _mm512_maskz_shuffle_f32x4(kAll, a, c, 0xdd);
    x[2] = _mm512_maskz_shuffle_f32x4(kAll, b, d, 0x88);
    x[3] = _mm512_maskz_shuffle_f32x4(kAll, b, d, 0xdd);
  }
  static float largest(V x) {
    const __m256 a = _mm256_max_ps(_mm512_maskz_extractf32x8_ps(0xff, x, 0), _mm512_maskz_extractf32x8_ps(0xff, x, 1));
    const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_shuffle_ps(c, c, 1)));
  }
};

}  // namespace
}  // namespace moegen

#include "kernels/cpu/operands.h"  // over the Simd above

namespace moegen {
namespace {

#ifdef __AVX512BF16__

// Weights are rounded to bf16, as the values are; their sum is not.
template <>
struct Groups<bf16, bf16> {
  using Coefficient = bf16;
  using Operand = __m512bh;
  static const bf16* coefficients(const bf16* q, int64_t, float*) { return q; }
  static Operand load(const bf16* p) { return std::bit_cast<Operand>(_mm512_loadu_si512(p)); }
  static Operand load(const bf16* p, int64_t n) { return std::bit_cast<Operand>(_mm512_maskz_loadu_epi32(Simd::mask(n), p)); }
  static Operand broadcast(const bf16* p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof(pair));
    return std::bit_cast<Operand>(_mm512_set1_epi32(pair));
  }
  static void store(bf16* p, Simd::V x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), std::bit_cast<__m256i>(_mm512_cvtneps_pbh(x))); }
  static Simd::V add(Simd::V sum, Operand a, Operand b) { return _mm512_dpbf16_ps(sum, a, b); }
};

// Whole numbers up to 127 are exact in bf16.
template <>
struct Groups<bf16, int8_t> : Groups<bf16, bf16> {
  static Operand load(const int8_t* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static Operand load(const int8_t* p, int64_t n) { return widen(_mm256_maskz_loadu_epi16(Simd::mask(n), p)); }
  static Operand widen(__m256i bytes) {
    return _mm512_cvtne2ps_pbh(floats(_mm256_extracti128_si256(bytes, 1)), floats(_mm256_castsi256_si128(bytes)));
  }
  static Simd::V floats(__m128i bytes) { return _mm512_maskz_cvtepi32_ps(Simd::kAll, _mm512_maskz_cvtepi8_epi32(Simd::kAll, bytes)); }
};

// Pairs of bf16, multiplied and added by one instruction, which takes subnormals for zero.
template <>
struct Products<bf16> {
  using Scalar = bf16;
  using Operand = __m512bh;
  static constexpr int64_t kStep = 2;
  static Operand broadcast(const bf16* p) { return Groups<bf16, bf16>::broadcast(p); }
  static Simd::V add(Simd::V sum, Operand a, Simd::V b) { return _mm512_dpbf16_ps(sum, a, std::bit_cast<Operand>(b)); }
};

#endif

}  // namespace
}  // namespace moegen
