#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <type_traits>

#include "base/checked.h"
#include "kernels/cpu/vectors.h"

// Rows of weights that are expanded as they are loaded, and rounded to E, which is what x is. Lines of them hold pairs of bf16 where L is, else
// floats. All of it has internal linkage: see simd_avx512.h.
//
// What is loaded at once starts at a multiple of its length, so it lies in one group, or block, of codes that share a scale.
namespace moegen {
namespace {

// What lines hold for a GEMM: pairs only where they are multiplied as such.
template <typename E>
using LinesOf = std::conditional_t<Simd::kMultipliesPairs, E, float>;

template <typename E>
V rounded(V x) {
  if constexpr (std::is_same_v<E, bf16>) {
    return Simd::widen(Simd::narrow(x));
  } else {
    return x;
  }
}

// In e4m3, from element `at` on.
template <typename E, typename L>
struct F8Row {
  const f8_e4m3* codes;
  const float* scales;  // of 1 << shift codes each
  int shift;
  int64_t at;
  [[nodiscard]] const void* address() const { return codes + at; }
  [[nodiscard, gnu::always_inline]] float scale() const { return scales[static_cast<uint64_t>(at) >> shift]; }
};
template <typename E, typename L>
F8Row<E, L> operator+(F8Row<E, L> row, int64_t n) {
  row.at += n;
  return row;
}
constexpr float kF8Unit = 256;  // Simd loads codes divided by it

template <typename E, typename L>
[[gnu::always_inline]] inline V load_some(F8Row<E, L> row, int64_t n) {
  const f8_e4m3* p = row.codes + row.at;
  return rounded<E>(Simd::mul(n >= kW ? Simd::load(p) : Simd::load(p, n), Simd::set(row.scale() * kF8Unit)));
}
template <typename E, typename L, typename... Some>
[[gnu::always_inline]] inline V load_line(F8Row<E, L> row, Some... n) {
  const f8_e4m3* p = row.codes + row.at;
  const V scale = Simd::set(row.scale() * kF8Unit);
  if constexpr (std::is_same_v<L, bf16>) {
    const Simd::Two two = Simd::load_two(p, n...);
    return Simd::pack({Simd::mul(two.low, scale), Simd::mul(two.high, scale)});
  } else {
    return rounded<E>(Simd::mul(Simd::load(p, n...), scale));
  }
}

// In MXFP4, from element `at` on. Rows are whole blocks: there is always as much as is asked for, and `n` says nothing new. All values are exact in
// bf16.
template <typename L>
struct F4Row {
  const f4_pair* codes;
  const f8_e8m0* scales;
  uint64_t at;
  [[nodiscard]] const void* address() const { return codes + at / 2; }
};
template <typename L>
F4Row<L> operator+(F4Row<L> row, int64_t n) {
  return {row.codes, row.scales, row.at + static_cast<uint64_t>(n)};
}
// Scales of what Simd loads, which is twice the value of a code: a whole number.
constexpr auto kF4Scales = [] {
  std::array<float, 256> out{};
  for (size_t i = 0; i < 255; ++i) out[i] = to_float(f8_e8m0{static_cast<uint8_t>(i)}) / 2;
  out[255] = to_float(f8_e8m0{255});
  return out;
}();
template <typename L>
[[gnu::always_inline]] inline V load_some(F4Row<L> row, int64_t) {
  return Simd::mul(Simd::load(row.codes + row.at / 2), Simd::set(kF4Scales[row.scales[row.at / kF4Block].bits]));
}
template <typename L, typename... Some>
[[gnu::always_inline]] inline V load_line(F4Row<L> row, Some...) {
  if constexpr (std::is_same_v<L, bf16>) {
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

// Whole numbers with a scale and a zero point for each group, from element `at` on. Rows are whole groups, of kGroupUnit or a multiple, so there is
// always as much as is asked for.
template <typename E, typename L, typename Code>
struct CodeRow {
  static constexpr int kBits = std::is_same_v<Code, i4_pair> ? 4 : 8;
  static constexpr int kHalf = 1 << (kBits - 1);
  const Code* codes;
  const void* scales;
  const uint8_t* zeros;  // or null
  DType scale_dtype;
  int64_t groups;    // in a row
  uint64_t inverse;  // of the units in a group, times 2^32: a row has less than 2^15 units
  int64_t at;

  [[nodiscard, gnu::always_inline]] const Code* code() const { return codes + at * kBits / 8; }
  [[nodiscard]] const void* address() const { return code(); }
  [[nodiscard, gnu::always_inline]] uint64_t group() const { return static_cast<uint64_t>(at) / kGroupUnit * inverse >> 32; }
  [[nodiscard, gnu::always_inline]] V zero() const { return Simd::set(static_cast<float>(zeros != nullptr ? zeros[group()] : kHalf)); }
  [[nodiscard, gnu::always_inline]] V scale() const {
    if (scale_dtype == DType::bf16) return Simd::set(to_float(static_cast<const bf16*>(scales)[group()]));
    if (scale_dtype == DType::f16) return Simd::set(to_float(static_cast<const f16*>(scales)[group()]));
    return Simd::set(static_cast<const float*>(scales)[group()]);
  }
};
template <typename E, typename L, typename Code>
CodeRow<E, L, Code> operator+(CodeRow<E, L, Code> row, int64_t n) {
  row.at += n;
  return row;
}
template <typename E, typename L, typename Code>
[[gnu::always_inline]] inline V load_some(CodeRow<E, L, Code> row, int64_t) {
  return rounded<E>(Simd::mul(Simd::sub(Simd::load(row.code()), row.zero()), row.scale()));
}
template <typename E, typename L, typename Code, typename... Some>
[[gnu::always_inline]] inline V load_line(CodeRow<E, L, Code> row, Some...) {
  if constexpr (std::is_same_v<L, bf16>) {
    const Simd::Two two = Simd::load_two(row.code());
    const V scale = row.scale(), zero = row.zero();
    return Simd::pack({Simd::mul(Simd::sub(two.low, zero), scale), Simd::mul(Simd::sub(two.high, zero), scale)});
  } else {
    return load_some(row, kW);
  }
}

// Lines of kW rows from element k on, turned: a vector has as many bytes of each row as a float.
template <typename Row>
[[gnu::always_inline]] inline void load_turned(const Row* rows, int64_t k, V (&lines)[kW]) {
  for (int64_t j = 0; j < kW; ++j) lines[j] = load_line(rows[j] + k);
  Simd::transpose(lines);
}
// Likewise of `length` elements, zeros behind them.
template <typename Row>
void load_turned(const Row* rows, int64_t k, int64_t length, V (&lines)[kW]) {
  for (int64_t j = 0; j < kW; ++j) lines[j] = load_line(rows[j] + k, length);
  Simd::transpose(lines);
}
// A row of weights: a pointer, or what expands them. `Lines` are what a vector of them holds as it is loaded, `Stored` what lies in memory.
template <typename Row>
struct RowOf {
  using Stored = std::remove_cv_t<std::remove_pointer_t<Row>>;
  using Lines = std::conditional_t<std::is_same_v<Stored, bf16>, bf16, float>;
  static Row of(const Gemm& op, int64_t n) { return static_cast<Row>(op.w) + n * op.k; }
  static const void* address(Row row) { return row; }
};
template <typename E, typename L>
struct RowOf<F8Row<E, L>> {
  using Stored = f8_e4m3;
  using Lines = L;
  static F8Row<E, L> of(const Gemm& op, int64_t n) {
    const bool blocks = op.w_block_rows == kF8Block;
    const auto* scales = static_cast<const float*>(op.w_scales) + (blocks ? n / kF8Block * ceil_div(op.k, kF8Block) : n);
    return {static_cast<const f8_e4m3*>(op.w) + n * op.k, scales, blocks ? std::countr_zero(static_cast<uint64_t>(kF8Block)) : 63, 0};
  }
  static const void* address(F8Row<E, L> row) { return row.address(); }
};
template <typename L>
struct RowOf<F4Row<L>> {
  using Stored = f4_pair;
  using Lines = L;
  static F4Row<L> of(const Gemm& op, int64_t n) {
    return {static_cast<const f4_pair*>(op.w) + n * op.k / 2, static_cast<const f8_e8m0*>(op.w_scales) + n * op.k / kF4Block, 0};
  }
  static const void* address(F4Row<L> row) { return row.address(); }
};
template <typename E, typename L, typename Code>
struct RowOf<CodeRow<E, L, Code>> {
  using Stored = Code;
  using Lines = L;
  static CodeRow<E, L, Code> of(const Gemm& op, int64_t n) {
    const auto units = static_cast<uint32_t>(op.w_group / kGroupUnit);
    const int64_t first = n * (op.k / op.w_group);
    return {.codes = static_cast<const Code*>(op.w) + n * op.k * CodeRow<E, L, Code>::kBits / 8,
            .scales = static_cast<const std::byte*>(op.w_scales) + static_cast<size_t>(first) * bytes_of(op.w_scale_dtype),
            .zeros = op.w_zeros != nullptr ? op.w_zeros + first : nullptr,
            .scale_dtype = op.w_scale_dtype,
            .groups = op.k / op.w_group,
            .inverse = uint64_t{0xffffffffU / units} + 1,
            .at = 0};
  }
  static const void* address(CodeRow<E, L, Code> row) { return row.address(); }
};
// Of n elements in memory.
template <typename Row>
constexpr int64_t stored_bytes(int64_t n) {
  using Stored = typename RowOf<Row>::Stored;
  return n * static_cast<int64_t>(sizeof(Stored)) / (std::is_same_v<Stored, f4_pair> || std::is_same_v<Stored, i4_pair> ? 2 : 1);
}
template <typename Row>
constexpr int64_t kRowLine = kLineElements<typename RowOf<Row>::Lines>;  // elements that load_line() takes

// What is broadcast is a float, unless pairs of bf16 can be multiplied as they are.
template <typename X, typename W>
struct RowFor {
  using Row = const W*;
};
template <typename X>
struct RowFor<X, f8_e4m3> {
  using Row = F8Row<X, LinesOf<X>>;
};
template <typename X>
struct RowFor<X, f4_pair> {
  using Row = F4Row<LinesOf<X>>;
};
template <typename X>
struct RowFor<X, i4_pair> {
  using Row = CodeRow<X, LinesOf<X>, i4_pair>;
};
template <typename X>
struct RowFor<X, u8_code> {
  using Row = CodeRow<X, LinesOf<X>, u8_code>;
};

}  // namespace
}  // namespace moegen
