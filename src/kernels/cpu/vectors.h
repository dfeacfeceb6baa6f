#pragma once

#include <array>
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

// A row of weights in f8_e4m3, from element `at` on: expanded as it is loaded, and rounded to E.
template <typename E>
struct F8Row {
  const f8_e4m3* codes;
  const float* scales;  // of kF8Block codes each
  int64_t at;
};
template <typename E>
F8Row<E> operator+(F8Row<E> row, int64_t n) {
  return {row.codes, row.scales, row.at + n};
}
constexpr float kF8Unit = 256;  // Simd loads codes divided by it

// What is loaded at once starts at a multiple of its length, so it lies in one block.
template <typename E>
V scale_of(F8Row<E> row) {
  return Simd::set(row.scales[static_cast<uint64_t>(row.at) / kF8Block] * kF8Unit);
}
template <typename E>
V load_some(F8Row<E> row, int64_t n) {
  const f8_e4m3* p = row.codes + row.at;
  const V x = Simd::mul(n >= kW ? Simd::load(p) : Simd::load(p, n), scale_of(row));
  if constexpr (std::is_same_v<E, bf16>) {
    return Simd::widen(Simd::narrow(x));
  } else {
    return x;
  }
}
template <typename E, typename... Some>
V load_line(F8Row<E> row, Some... n) {
  const f8_e4m3* p = row.codes + row.at;
  const V scale = scale_of(row);
  if constexpr (std::is_same_v<E, bf16>) {
    const Simd::Two two = Simd::load_two(p, n...);
    return Simd::pack({Simd::mul(two.low, scale), Simd::mul(two.high, scale)});
  } else {
    return Simd::mul(Simd::load(p, n...), scale);
  }
}

// A row of weights in MXFP4, from element `at` on. What is loaded at once starts at a multiple of its length, so it lies in one block, and
// rows are whole blocks: there is always as much as is asked for, and `n` says nothing new.
template <typename E>
struct F4Row {
  const f4_pair* codes;
  const f8_e8m0* scales;
  uint64_t at;
};
template <typename E>
F4Row<E> operator+(F4Row<E> row, int64_t n) {
  return {row.codes, row.scales, row.at + static_cast<uint64_t>(n)};
}
// Scales of what Simd loads, which is twice the value of a code: a whole number.
constexpr auto kF4Scales = [] {
  std::array<float, 256> out{};
  for (size_t i = 0; i < 255; ++i) out[i] = to_float(f8_e8m0{static_cast<uint8_t>(i)}) / 2;
  out[255] = to_float(f8_e8m0{255});
  return out;
}();
template <typename E>
V load_some(F4Row<E> row, int64_t) {
  return Simd::mul(Simd::load(row.codes + row.at / 2), Simd::set(kF4Scales[row.scales[row.at / kF4Block].bits]));
}
template <typename E, typename... Some>
V load_line(F4Row<E> row, Some...) {
  if constexpr (std::is_same_v<E, bf16>) {
#ifdef __AVX512BF16__
    const int exponent = row.scales[row.at / kF4Block].bits;
    if (Simd::is_plain_scale(exponent)) return Simd::load_bf16(row.codes + row.at / 2, exponent);
#endif
    const Simd::Two two = Simd::load_two(row.codes + row.at / 2);
    const V scale = Simd::set(kF4Scales[row.scales[row.at / kF4Block].bits]);
    return Simd::pack({Simd::mul(two.low, scale), Simd::mul(two.high, scale)});
  } else {
    return load_some(row, kW);
  }
}

// A row of weights in int4 with a scale for each group, from element `at` on: expanded as it is loaded, and rounded to E. What is loaded at
// once lies in one group, and rows are whole groups, as with F4Row.
template <typename E>
struct I4Row {
  const i4_pair* codes;
  const bf16* scales;
  int64_t group;
  int64_t at;
};
template <typename E>
I4Row<E> operator+(I4Row<E> row, int64_t n) {
  return {row.codes, row.scales, row.group, row.at + n};
}
template <typename E>
V scale_of(I4Row<E> row) {
  return Simd::set(to_float(row.scales[static_cast<uint32_t>(row.at) / static_cast<uint32_t>(row.group)]));
}
template <typename E>
V load_some(I4Row<E> row, int64_t) {
  const V x = Simd::mul(Simd::load(row.codes + row.at / 2), scale_of(row));
  if constexpr (std::is_same_v<E, bf16>) {
    return Simd::widen(Simd::narrow(x));
  } else {
    return x;
  }
}
template <typename E, typename... Some>
V load_line(I4Row<E> row, Some...) {
  if constexpr (std::is_same_v<E, bf16>) {
    const V scale = scale_of(row);
    const Simd::Two two = Simd::load_two(row.codes + row.at / 2);
    return Simd::pack({Simd::mul(two.low, scale), Simd::mul(two.high, scale)});
  } else {
    return load_some(row, kW);
  }
}

// Whether load_turned() turns a block of rows before it expands them.
template <typename Row>
constexpr bool kTurnsCodes = false;

// Lines of kW rows from element k on, turned: a vector has as many bytes of each row as a float.
template <typename Row>
[[gnu::always_inline]] inline void load_turned(const Row* rows, int64_t k, V (&lines)[kW]) {
  for (int64_t j = 0; j < kW; ++j) lines[j] = load_line(rows[j] + k);
  Simd::transpose(lines);
}
#ifdef __AVX512BF16__
template <>
constexpr bool kTurnsCodes<F4Row<bf16>> = true;
[[gnu::always_inline]] inline void load_turned(const F4Row<bf16>* rows, int64_t k, V (&lines)[kW]) {
  const f4_pair* codes[kW];
  const f8_e8m0* scales[kW];
  for (int64_t j = 0; j < kW; ++j) {
    const F4Row<bf16> row = rows[j] + k;
    codes[j] = row.codes + row.at / 2;
    scales[j] = row.scales + row.at / kF4Block;
  }
  if (Simd::load_turned_bf16(codes, scales, lines)) return;
  load_turned<F4Row<bf16>>(rows, k, lines);
}
#endif

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

// e^x = 2^n * e^r with n = round(x / ln 2), |r| <= ln 2 / 2; Taylor to r^7: below 2 ulp.
V exp(V x) {
  const V low = Simd::set(-104.0F);  // e^-104 rounds to 0, e^89 to infinity
  const V clamped = Simd::min(Simd::max(x, low), Simd::set(89.0F));
  const V n = Simd::round(Simd::mul(clamped, Simd::set(1.44269504088896341F)));
  V r = Simd::fma(n, Simd::set(-0.693145751953125F), clamped);  // ln 2 in two parts, the first exact in few bits
  r = Simd::fma(n, Simd::set(-1.42860682030941723e-6F), r);
  V p = Simd::set(1.0F / 5040);
  p = Simd::fma(p, r, Simd::set(1.0F / 720));
  p = Simd::fma(p, r, Simd::set(1.0F / 120));
  p = Simd::fma(p, r, Simd::set(1.0F / 24));
  p = Simd::fma(p, r, Simd::set(1.0F / 6));
  p = Simd::fma(p, r, Simd::set(0.5F));
  p = Simd::fma(p, r, Simd::set(1.0F));
  p = Simd::fma(p, r, Simd::set(1.0F));
  return Simd::unordered_or(x, Simd::scale2(p, n));
}

}  // namespace
}  // namespace moegen
