#pragma once

#include <immintrin.h>

// All of it has internal linkage: see simd_avx512.h.
namespace moegen {
namespace {

// The first 4, 8 or 16 bytes, and zeros.
template <int kBytes>
[[gnu::always_inline]] inline __m128i first_bytes(const void* from) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  if constexpr (kBytes == 4) {
    return _mm_loadu_si32(from);
  } else if constexpr (kBytes == 8) {
    return _mm_loadl_epi64(static_cast<const __m128i*>(from));
  } else {
    return _mm_loadu_si128(static_cast<const __m128i*>(from));
  }
}

}  // namespace
}  // namespace moegen
