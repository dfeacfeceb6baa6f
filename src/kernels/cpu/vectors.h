#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/functions.h"

// What the ops of every path share, over the vectors of `Simd`, which the including file chose. All of it has internal linkage: see
// simd_avx512.h.
namespace moegen {
namespace {

using V = Simd::V;
constexpr int64_t kW = Simd::kWidth;

template <typename T>
V load_some(const T* p, int64_t n) {
  return n >= kW ? Simd::load(p) : Simd::load(p, n);
}

template <typename T>
void store_some(T* p, V x, int64_t n) {
  if (n >= kW) {
    Simd::store(p, x);
  } else {
    Simd::store(p, x, n);
  }
}

// A vector of floats or of pairs of bf16, as they lie in memory; f16 become floats.
template <typename T>
constexpr int64_t kLineElements = std::is_same_v<T, bf16> ? 2 * kW : kW;
template <typename T, typename... Some>
V load_line(const T* p, Some... n) {
  if constexpr (std::is_same_v<T, f16>) {
    return Simd::load(p, n...);
  } else {
    return Simd::load_raw(p, n...);
  }
}

// Calls f with n, in [1, kMost], as a constant.
template <int kMost, typename F>
void with_count(int64_t n, const F& f) {
  if constexpr (kMost > 1) {
    if (n < kMost) return with_count<kMost - 1>(n, f);
  }
  f(std::integral_constant<int, kMost>{});
}

// Calls f with a typed null pointer for the dtype: the one place where a dtype becomes a type.
template <typename F>
void with_weight_type(DType dtype, const F& f) {
  if (dtype == DType::f32) {
    f(static_cast<const float*>(nullptr));
  } else if (dtype == DType::f16) {
    f(static_cast<const f16*>(nullptr));
  } else {
    f(static_cast<const bf16*>(nullptr));
  }
}

// Likewise of a matrix, which may be expanded as it is loaded.
template <typename F>
void with_matrix_type(DType dtype, const F& f) {
  if (dtype == DType::f8_e4m3) {
    f(static_cast<const f8_e4m3*>(nullptr));
  } else if (dtype == DType::f4) {
    f(static_cast<const f4_pair*>(nullptr));
  } else if (dtype == DType::i4) {
    f(static_cast<const i4_pair*>(nullptr));
  } else if (dtype == DType::u8) {
    f(static_cast<const u8_code*>(nullptr));
  } else {
    with_weight_type(dtype, f);
  }
}

template <typename F>
void with_activation_type(DType dtype, const F& f) {
  if (dtype == DType::f32) {
    f(static_cast<float*>(nullptr));
  } else {
    f(static_cast<bf16*>(nullptr));
  }
}

// Fetches so many bytes into L2, in turns from `at` and from `apart` bytes behind it, since the processor's own prefetcher follows two lines of
// addresses further than one.
void fetch_two_lines(const void* at, int64_t apart, int64_t bytes) {
  for (int64_t i = 0; i < bytes / 2; i += 64) {
    __builtin_prefetch(static_cast<const char*>(at) + i, 0, 2);
    __builtin_prefetch(static_cast<const char*>(at) + apart + i, 0, 2);
  }
}

// Of each, e^x = 2^n * e^r with n = round(x / ln 2), |r| <= ln 2 / 2; Taylor to r^7: below 2 ulp. Step by step for all, since each step of one
// waits for the step before.
template <int kCount>
[[gnu::always_inline]] inline void exp_each(V* x) {
  constexpr float kTaylor[] = {1.0F / 720, 1.0F / 120, 1.0F / 24, 1.0F / 6, 0.5F, 1.0F, 1.0F};
  V n[kCount], p[kCount];
  // e^-104 rounds to 0, e^89 to infinity.
  for (int i = 0; i < kCount; ++i) x[i] = Simd::max(Simd::set(-104.0F), Simd::min(Simd::set(89.0F), x[i]));  // in this order a NaN stays one
  for (int i = 0; i < kCount; ++i) n[i] = Simd::round(Simd::mul(x[i], Simd::set(1.44269504088896341F)));
  for (int i = 0; i < kCount; ++i) x[i] = Simd::fma(n[i], Simd::set(-0.693145751953125F), x[i]);  // ln 2 in two parts, the first exact in few bits
  for (int i = 0; i < kCount; ++i) x[i] = Simd::fma(n[i], Simd::set(-1.42860682030941723e-6F), x[i]);
  for (int i = 0; i < kCount; ++i) p[i] = Simd::set(1.0F / 5040);
  for (const float c : kTaylor) {
    for (int i = 0; i < kCount; ++i) p[i] = Simd::fma(p[i], x[i], Simd::set(c));
  }
  for (int i = 0; i < kCount; ++i) x[i] = Simd::scale2(p[i], n[i]);
}

V exp(V x) {
  exp_each<1>(&x);
  return x;
}

}  // namespace
}  // namespace moegen
