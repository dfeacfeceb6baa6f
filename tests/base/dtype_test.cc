#include "base/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

namespace moegen {
namespace {

float bits(uint32_t u) { return std::bit_cast<float>(u); }

// The slow oracle: of the two neighbours of |x| in bf16 the nearer one, measured in double; between two equal ones the even.
uint16_t nearest_bf16(float x) {
  const uint32_t magnitude = std::bit_cast<uint32_t>(x) & 0x7fffffffU;
  const auto sign = static_cast<uint16_t>((std::bit_cast<uint32_t>(x) >> 16) & 0x8000U);
  const auto below = static_cast<uint16_t>(magnitude >> 16);
  const auto above = static_cast<uint16_t>(below + 1);
  // 2^128 stands for infinity, which is where a value is rounded to that lies beyond the largest finite one.
  const auto value = [](uint16_t b) { return b == 0x7f80 ? 0x1p128 : static_cast<double>(bits(static_cast<uint32_t>(b) << 16)); };
  if (below == 0x7f80) return static_cast<uint16_t>(sign | below);
  const double d_below = std::fabs(x) - value(below);
  const double d_above = value(above) - std::fabs(x);
  const uint16_t best = d_below < d_above ? below : d_above < d_below ? above : below % 2 == 0 ? below : above;
  return static_cast<uint16_t>(sign | best);
}

TEST(Bf16, AgreesWithTheOracleAroundEveryBf16Value) {
  for (uint32_t high = 0; high < 0x10000; ++high) {
    if ((high & 0x7fffU) >= 0x7f80U) continue;
    for (const uint32_t low : {0U, 1U, 0x7fffU, 0x8000U, 0x8001U, 0xffffU}) {
      const float x = bits(high << 16 | low);
      ASSERT_EQ(to_bf16(x).bits, nearest_bf16(x)) << std::hexfloat << x;
    }
  }
}

TEST(Bf16, AgreesWithTheOracleOnRandomBits) {
  std::mt19937 random(1);
  for (int i = 0; i < 1'000'000; ++i) {
    const float x = bits(static_cast<uint32_t>(random()));
    if (std::isnan(x)) continue;
    ASSERT_EQ(to_bf16(x).bits, nearest_bf16(x)) << std::hexfloat << x;
  }
}

TEST(Bf16, TiesGoToEven) {
  EXPECT_EQ(to_bf16(bits(0x3f808000)).bits, 0x3f80);
  EXPECT_EQ(to_bf16(bits(0x3f818000)).bits, 0x3f82);
  EXPECT_EQ(to_bf16(bits(0xbf818000)).bits, 0xbf82);
}

TEST(Bf16, LargestFloatBecomesInfinityAndSubnormalsStay) {
  EXPECT_EQ(to_bf16(std::numeric_limits<float>::max()).bits, 0x7f80);
  EXPECT_EQ(to_bf16(-std::numeric_limits<float>::infinity()).bits, 0xff80);
  EXPECT_EQ(to_bf16(bits(0x00010000)).bits, 0x0001);
  EXPECT_EQ(to_bf16(-0.0F).bits, 0x8000);
}

TEST(Bf16, NanStaysNanEvenWhereItsPayloadIsInTheLowHalf) {
  for (const uint32_t u : {0x7f800001U, 0xff800001U, 0x7fffffffU, 0xffffffffU, 0x7fc00000U, 0x7f80ffffU}) {
    EXPECT_TRUE(std::isnan(to_float(to_bf16(bits(u))))) << std::hex << u;
    EXPECT_EQ(to_bf16(bits(u)).bits >> 15, u >> 31) << "the sign is kept";
  }
}

TEST(Bf16, EveryValueSurvivesTheWayThroughFloat) {
  for (uint32_t b = 0; b < 0x10000; ++b) {
    const bf16 x{static_cast<uint16_t>(b)};
    if (std::isnan(to_float(x))) continue;
    ASSERT_EQ(to_bf16(to_float(x)).bits, b);
  }
}

TEST(F16, EveryValueAgreesWithTheFormula) {
  for (uint32_t b = 0; b < 0x10000; ++b) {
    const int exponent = static_cast<int>(b >> 10 & 0x1f);
    const int mantissa = static_cast<int>(b & 0x3ff);
    const double sign = b >> 15 != 0 ? -1 : 1;
    const float x = to_float(f16{static_cast<uint16_t>(b)});
    if (exponent == 31) {
      ASSERT_TRUE(mantissa == 0 ? std::isinf(x) : std::isnan(x)) << b;
    } else {
      const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
      ASSERT_EQ(static_cast<double>(x), sign * magnitude) << b;
    }
    ASSERT_EQ(std::signbit(x), b >> 15 != 0) << b;
  }
}

TEST(F8, EveryValueAgreesWithTheFormulaAndSurvivesTheWayThroughFloat) {
  for (uint32_t b = 0; b < 0x100; ++b) {
    const int exponent = static_cast<int>(b >> 3 & 0xf);
    const int mantissa = static_cast<int>(b & 7);
    const f8_e4m3 code{static_cast<uint8_t>(b)};
    const float x = to_float(code);
    if ((b & 0x7f) == 0x7f) {
      ASSERT_TRUE(std::isnan(x));
    } else {
      const double magnitude = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
      ASSERT_EQ(static_cast<double>(x), b < 0x80 ? magnitude : -magnitude) << b;
    }
    ASSERT_EQ(to_f8_e4m3(x).bits, b);
  }
}

TEST(Mxfp4, CodesAndScalesAgreeWithTheFormula) {
  for (uint32_t code = 0; code < 16; ++code) {
    const int exponent = static_cast<int>(code >> 1 & 3U);
    const double mantissa = code & 1U;
    const double magnitude = exponent == 0 ? mantissa / 2 : std::ldexp(1 + mantissa / 2, exponent - 1);
    EXPECT_EQ(f4_to_float(code), code < 8 ? magnitude : -magnitude);
  }
  for (int x = 0; x < 255; ++x) EXPECT_EQ(to_float(f8_e8m0{static_cast<uint8_t>(x)}), std::ldexp(1.0, x - 127));
  EXPECT_TRUE(std::isnan(to_float(f8_e8m0{255})));
}

TEST(F8, RoundsToNearestTiesToEven) {
  for (uint8_t b = 0; b < 0x7e; ++b) {
    const float low = to_float(f8_e4m3{b});
    const float high = to_float(f8_e4m3{static_cast<uint8_t>(b + 1)});
    const float middle = (low + high) / 2;
    ASSERT_EQ(to_f8_e4m3(middle).bits, b % 2 == 0 ? b : b + 1);
    ASSERT_EQ(to_f8_e4m3(std::nextafter(middle, 0.0F)).bits, b);
    ASSERT_EQ(to_f8_e4m3(-std::nextafter(middle, 500.0F)).bits, 0x80 | (b + 1));
  }
  EXPECT_EQ(to_f8_e4m3(1e9F).bits, 0x7e);
  EXPECT_EQ(to_f8_e4m3(-INFINITY).bits, 0xfe);
}

TEST(DType, SafetensorsNamesAreReadBackForEveryType) {
  for (int i = 0; i <= static_cast<int>(DType::c64); ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(dtype_from_safetensors(name_of(dtype)), dtype) << name_of(dtype);
  }
  EXPECT_EQ(dtype_from_safetensors("bf16"), std::nullopt);
  EXPECT_EQ(dtype_from_safetensors(""), std::nullopt);
}

}  // namespace
}  // namespace moegen
