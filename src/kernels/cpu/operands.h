#pragma once

#include <cstdint>
#include <type_traits>

#include "base/dtype.h"

// What the paths multiply, over the `Simd` of the file that includes this; a path adds or replaces what its instructions do better.
// All of it has internal linkage: see simd_avx512.h.
namespace moegen {
namespace {

// What attention multiplies: a broadcast group of coefficients (of a query of T, of weights) with vectors of groups of S (kv_page.h).
template <typename T, typename S>
struct Groups;

template <>
struct Groups<float, float> {
  using Coefficient = float;
  using Operand = Simd::V;
  static const float* coefficients(const float* q, int64_t, float*) { return q; }
  static Operand load(const float* p) { return Simd::load(p); }
  static Operand load(const float* p, int64_t n) { return Simd::load(p, n); }
  static Simd::V broadcast(const float* p) { return Simd::set(*p); }
  static void store(float* p, Simd::V x) { Simd::store(p, x); }
  static Simd::V add(Simd::V sum, Simd::V a, Operand b) { return Simd::fma(a, b, sum); }
};

// Pairs, apart, as floats.
template <typename T, typename S>
struct SplitGroups {
  using Coefficient = float;
  using Operand = Simd::Pairs;
  static const float* coefficients(const T* q, int64_t n, float* room) {
    if constexpr (std::is_same_v<T, float>) return q;
    for (int64_t i = 0; i < n; i += Simd::kWidth) Simd::store(room + i, n - i >= Simd::kWidth ? Simd::load(q + i) : Simd::load(q + i, n - i));
    return room;
  }
  static const float* broadcast(const float* p) { return p; }
  static void store(float* p, Simd::V x) { Simd::store(p, x); }
  static Simd::V add(Simd::V sum, const float* a, const Operand& b) {
    return Simd::fma(Simd::set(a[1]), b.odd, Simd::fma(Simd::set(a[0]), b.even, sum));
  }
  static Operand load(const S* p) { return Simd::load_pairs(p); }
  static Operand load(const S* p, int64_t n) { return Simd::load_pairs(p, n); }
};

template <>
struct Groups<float, int8_t> : SplitGroups<float, int8_t> {};

#ifndef __AVX512BF16__

template <>
struct Groups<bf16, bf16> : SplitGroups<bf16, bf16> {};
template <>
struct Groups<bf16, int8_t> : SplitGroups<bf16, int8_t> {};

#endif

// How a GEMM multiplies vectors of one side with elements of the other, which are broadcast: kStep elements along k at a time.
template <typename ScalarType>
struct Products;

template <>
struct Products<float> {
  using Scalar = float;
  static constexpr int64_t kStep = 1;
  static Simd::V broadcast(const float* p) { return Simd::set(*p); }
  static Simd::V add(Simd::V sum, Simd::V a, Simd::V b) { return Simd::fma(a, b, sum); }
};

}  // namespace
}  // namespace moegen
