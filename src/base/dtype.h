#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string_view>

namespace moegen {

/// Element types of checkpoints (all that safetensors knows) and of activations (f32, bf16).
enum class DType : uint8_t {
  f64,
  f32,
  f16,
  bf16,
  f8_e4m3,
  f8_e5m2,
  f8_e8m0,
  f6_e2m3,
  f6_e3m2,
  f4,
  i64,
  i32,
  i16,
  i8,
  u64,
  u32,
  u16,
  u8,
  boolean,
  c64,
  i4,  ///< not of safetensors: i4_pair
};

[[nodiscard]] int bits_of(DType dtype);
/// As safetensors spells it: "BF16".
[[nodiscard]] std::string_view name_of(DType dtype);
[[nodiscard]] std::optional<DType> dtype_from_safetensors(std::string_view name);

/// Bytes of one element of a type of at least eight bits.
[[nodiscard]] inline size_t bytes_of(DType dtype) { return static_cast<size_t>(bits_of(dtype)) / 8; }
/// Bytes of `count` elements, which are whole bytes.
[[nodiscard]] inline uint64_t bytes_of(DType dtype, uint64_t count) { return count * static_cast<uint64_t>(bits_of(dtype)) / 8; }

/// The upper half of a float. Kept apart from uint16_t, so that a mistaken conversion does not compile.
struct bf16 {
  uint16_t bits;
};

[[nodiscard]] inline float to_float(bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }
[[nodiscard]] inline float to_float(float x) { return x; }

/// Rounds to nearest, ties to even; a NaN stays a NaN.
[[nodiscard]] inline bf16 to_bf16(float x) {
  const auto u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7fffffffU) > 0x7f800000U) return {static_cast<uint16_t>((u >> 16) | 0x40U)};
  return {static_cast<uint16_t>((u + 0x7fffU + ((u >> 16) & 1U)) >> 16)};
}

/// IEEE half.
struct f16 {
  uint16_t bits;
};

[[nodiscard]] inline float to_float(f16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000U) << 16;
  const uint32_t exponent = (x.bits >> 10) & 0x1fU;
  const uint32_t mantissa = x.bits & 0x3ffU;
  if (exponent == 0) {  // zero or subnormal: exact in float
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  const uint32_t wide = exponent == 31 ? 255U : exponent + 112U;
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

/// Four bits of exponent, three of mantissa, no infinity: 0x7f and 0xff are NaN, 448 is the largest.
struct f8_e4m3 {
  uint8_t bits;
};

/// Rows, and columns, of a matrix in f8_e4m3 that share a scale.
constexpr int64_t kF8Block = 128;

[[nodiscard]] inline float to_float(f8_e4m3 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x80U) << 24;
  const uint32_t magnitude = x.bits & 0x7fU;
  if (magnitude == 0x7fU) return std::bit_cast<float>(sign | 0x7fc00000U);
  if (magnitude < 8) return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(static_cast<float>(magnitude) * 0x1p-9F));  // zero or subnormal
  return std::bit_cast<float>(sign | ((magnitude << 20) + (120U << 23)));
}

/// Rounds to nearest, ties to even; what is larger than 448 becomes 448.
[[nodiscard]] inline f8_e4m3 to_f8_e4m3(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const auto sign = static_cast<uint8_t>(bits >> 24 & 0x80U);
  const uint32_t u = bits & 0x7fffffffU;
  if (u > 0x7f800000U) return {static_cast<uint8_t>(sign | 0x7fU)};
  if (u >= 0x43e00000U) return {static_cast<uint8_t>(sign | 0x7eU)};
  if (u < 0x3c800000U) {  // below 2^-6: in steps of 2^-9, which adding 2^14 leaves of a float
    return {static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(std::bit_cast<float>(u) + 0x1p14F) & 0xfU))};
  }
  return {static_cast<uint8_t>(sign | (((u + 0x7ffffU + (u >> 20 & 1U)) >> 20) - (120U << 3)))};
}

/// Two codes of e2m1 side by side, the first in the lower four bits: one bit of sign, two of exponent, one of mantissa; 6 is the largest.
struct f4_pair {
  uint8_t bits;
};

/// Neighbours in a row of a matrix in MXFP4 (OCP Microscaling Formats v1.0) that share a scale in e8m0. Rows are whole blocks.
constexpr int64_t kF4Block = 32;

/// Of one code, in [0, 16).
[[nodiscard]] inline float f4_to_float(uint32_t code) {
  constexpr float kMagnitudes[] = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6};
  const float magnitude = kMagnitudes[code & 7U];
  return (code & 8U) != 0 ? -magnitude : magnitude;
}

/// Two codes side by side, the first in the lower four bits: whole numbers with their zero point added, which is 8 where none is given.
struct i4_pair {
  uint8_t bits;
};
/// Likewise one, whose zero point is 128.
struct u8_code {
  uint8_t bits;
};

/// Rows of such codes, and neighbours in them that share a scale, are a multiple of these.
constexpr int64_t kGroupUnit = 32;

/// A power of two, 2^(x - 127); 255 is a NaN.
struct f8_e8m0 {
  uint8_t bits;
};

[[nodiscard]] constexpr float to_float(f8_e8m0 x) {
  const uint32_t bits = x.bits;
  return std::bit_cast<float>(bits == 0 ? 0x00400000U : bits == 255 ? 0x7fc00000U : bits << 23);
}

template <typename T>
[[nodiscard]] T from_float(float x);
template <>
[[nodiscard]] inline float from_float<float>(float x) {
  return x;
}
template <>
[[nodiscard]] inline bf16 from_float<bf16>(float x) {
  return to_bf16(x);
}

template <typename T>
inline constexpr DType kDTypeOf = DType::f32;
template <>
inline constexpr DType kDTypeOf<bf16> = DType::bf16;
template <>
inline constexpr DType kDTypeOf<f16> = DType::f16;
template <>
inline constexpr DType kDTypeOf<f8_e4m3> = DType::f8_e4m3;
template <>
inline constexpr DType kDTypeOf<f4_pair> = DType::f4;
template <>
inline constexpr DType kDTypeOf<i4_pair> = DType::i4;
template <>
inline constexpr DType kDTypeOf<u8_code> = DType::u8;
template <>
inline constexpr DType kDTypeOf<int8_t> = DType::i8;

}  // namespace moegen
