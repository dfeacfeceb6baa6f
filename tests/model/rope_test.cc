#include "model/rope.h"

#include <gtest/gtest.h>

#include <cmath>

namespace moegen {
namespace {

constexpr double kPi = 3.14159265358979323846;

RopeSpec spec(RopeSpec::Scaling scaling) {
  RopeSpec s;
  s.dim = 64;
  s.theta = 10000;
  s.scaling = scaling;
  s.factor = 8;
  s.original_len = 1024;
  return s;
}

// One float rounding of a value that was computed in double on both sides, in another order.
void expect_close(double got, double wanted, int pair) { EXPECT_NEAR(got / wanted, 1, 2e-7) << "pair " << pair; }

TEST(Rope, PlainFrequenciesFallGeometrically) {
  const auto f = rope_frequencies(spec(RopeSpec::Scaling::none));
  ASSERT_EQ(f.size(), 32U);
  EXPECT_EQ(f[0], 1);
  for (int i = 0; i < 32; ++i) expect_close(f[static_cast<size_t>(i)], 1 / std::exp(std::log(10000.0) * 2 * i / 64), i);
}

TEST(Rope, ThePartialWidthCountsNotTheHead) {
  RopeSpec s = spec(RopeSpec::Scaling::none);
  s.dim = 16;
  const auto f = rope_frequencies(s);
  ASSERT_EQ(f.size(), 8U);
  expect_close(f[7], std::pow(10000.0, -14.0 / 16), 7);
}

TEST(Rope, LinearDividesEveryFrequency) {
  const auto plain = rope_frequencies(spec(RopeSpec::Scaling::none));
  const auto linear = rope_frequencies(spec(RopeSpec::Scaling::linear));
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_FLOAT_EQ(linear[i], plain[i] / 8);
}

TEST(Rope, ProportionalTurnsTheFirstPairsSlower) {
  RopeSpec s = spec(RopeSpec::Scaling::proportional);
  s.pairs = 3;
  const auto plain = rope_frequencies(spec(RopeSpec::Scaling::none));
  const auto f = rope_frequencies(s);
  for (size_t i = 0; i < f.size(); ++i) EXPECT_FLOAT_EQ(f[i], i < 3 ? plain[i] / 8 : 0);
}

// In wavelengths: short ones stay, long ones are stretched, between them a blend that is linear in orig / wavelength.
TEST(Rope, Llama3KeepsShortWavesStretchesLongOnesAndBlendsBetween) {
  RopeSpec s = spec(RopeSpec::Scaling::llama3);
  s.low_freq_factor = 1;
  s.high_freq_factor = 4;
  const auto f = rope_frequencies(s);
  int kept = 0, stretched = 0, blended = 0;
  for (int i = 0; i < 32; ++i) {
    const double wave = 2 * kPi * std::pow(10000.0, 2.0 * i / 64);
    double wanted = 2 * kPi / wave;
    if (wave > 1024.0 / 1) {
      wanted /= 8;
      ++stretched;
    } else if (wave >= 1024.0 / 4) {
      const double keep = (1024 / wave - 1) / (4 - 1);
      wanted = wanted * keep + wanted / 8 * (1 - keep);
      ++blended;
    } else {
      ++kept;
    }
    expect_close(f[static_cast<size_t>(i)], wanted, i);
  }
  EXPECT_GT(kept, 5);
  EXPECT_GT(stretched, 5);
  EXPECT_GT(blended, 1);
}

// dim(r) of semantics.md: the pair index that turns r times within the original context.
double yarn_wanted(const RopeSpec& s, int pair) {
  const auto dim_of = [&](double r) { return s.dim * std::log(s.original_len / (2 * kPi * r)) / (2 * std::log(s.theta)); };
  double low = dim_of(s.beta_fast);
  double high = dim_of(s.beta_slow);
  if (s.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = low < 0 ? 0 : low;
  high = high > s.dim - 1 ? s.dim - 1 : high;
  const double width = high == low ? 0.001 : high - low;
  double ramp = (pair - low) / width;
  ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
  const double f = std::exp(-std::log(s.theta) * 2 * pair / s.dim);
  return (1 - ramp) * f + ramp * (f / s.factor);
}

TEST(Rope, YarnRampsBetweenKeepingAndInterpolating) {
  for (const bool truncate : {true, false}) {
    for (const double original : {64.0, 1024.0, 32768.0, 1048576.0, 1e15}) {
      RopeSpec s = spec(RopeSpec::Scaling::yarn);
      s.original_len = original;
      s.truncate = truncate;
      const auto f = rope_frequencies(s);
      for (int i = 0; i < 32; ++i) expect_close(f[static_cast<size_t>(i)], yarn_wanted(s, i), i);
    }
  }
}

// With numbers worked out by hand: theta 10000, dim 64, 1024 tokens: dim(32) = 5.6 -> 5, dim(1) = 17.7 -> 18.
TEST(Rope, YarnBordersByHand) {
  const auto plain = rope_frequencies(spec(RopeSpec::Scaling::none));
  const auto yarn = rope_frequencies(spec(RopeSpec::Scaling::yarn));
  EXPECT_FLOAT_EQ(yarn[5], plain[5]);
  EXPECT_FLOAT_EQ(yarn[6], plain[6] * (12.0F / 13 + 1.0F / 13 / 8));
  EXPECT_FLOAT_EQ(yarn[17], plain[17] * (1.0F / 13 + 12.0F / 13 / 8));
  EXPECT_FLOAT_EQ(yarn[18], plain[18] / 8);
}

TEST(Rope, YarnWithoutTruncationHasOtherBorders) {
  RopeSpec s = spec(RopeSpec::Scaling::yarn);
  const auto whole = rope_frequencies(s);
  s.truncate = false;
  EXPECT_NE(rope_frequencies(s)[6], whole[6]);
}

TEST(Rope, YarnWithOneBorderForBothStaysFinite) {
  RopeSpec s = spec(RopeSpec::Scaling::yarn);
  s.original_len = 1;  // both borders below the first pair
  for (const float f : rope_frequencies(s)) EXPECT_TRUE(std::isfinite(f) && f > 0);
  s.original_len = 1e9;
  s.beta_fast = s.beta_slow = 1;
  s.truncate = false;
  for (const float f : rope_frequencies(s)) EXPECT_TRUE(std::isfinite(f) && f > 0);
}

}  // namespace
}  // namespace moegen
