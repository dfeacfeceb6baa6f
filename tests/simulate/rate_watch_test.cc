#include "simulate/rate_watch.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/support/machines.h"

namespace moegen {
namespace {

TEST(RateWatch, SaysSoWhenSixteenThenThirtyTwoPassesAreOffByMoreThanFifteenPercent) {
  RateWatch watch;
  for (int i = 0; i < 40; ++i) EXPECT_FALSE(watch.add({1, 1, 0.5, 0}, {1.1, 1, 0.5, 0}));
  std::vector<int> at;
  for (int i = 0; i < 110; ++i) {
    const auto c = watch.add({1, 0.8, 0.5, 0}, {2, 1.2, 1.5, 0});
    if (!c) continue;
    at.push_back(i);
    if (at.size() == 1) continue;  // some of its passes were as predicted
    EXPECT_NEAR(c->cpu, 1.5, 1e-9);
    EXPECT_NEAR(c->storage, 3, 1e-9);
  }
  EXPECT_EQ(at, (std::vector<int>{7, 39, 103}));
}

TEST(RateWatch, ThreePassesOfAMinuteAreEnough) {
  RateWatch watch;
  std::vector<int> at;
  for (int i = 0; i < 20; ++i) {
    if (watch.add({15, 15, 0, 0}, {25, 25, 0, 0})) at.push_back(i);
  }
  EXPECT_EQ(at, (std::vector<int>{2, 8})) << "and then six";
}

TEST(RateWatch, OneSlowPassIsNoCorrection) {
  RateWatch watch;
  for (int i = 0; i < 64; ++i) EXPECT_FALSE(watch.add({1, 1, 0, 0}, {i % 16 == 3 ? 3.0 : 1.0, 1, 0, 0}));
}

TEST(RateWatch, ACorrectedMachineTakesAsMuchLonger) {
  const Machine before = round_machine();
  const Machine after = corrected(before, {2, 3});
  EXPECT_NEAR(after.mlp_seconds(64, 64, 10, {}), 2 * before.mlp_seconds(64, 64, 10, {}), 1e-12);
  EXPECT_NEAR(after.prefill_seconds({8, 2, 64}, 100, 1000, 100), 2 * before.prefill_seconds({8, 2, 64}, 100, 1000, 100), 1e-12);
  EXPECT_NEAR(*after.ssd->read_bandwidth * 3, *before.ssd->read_bandwidth, 1);
}

}  // namespace
}  // namespace moegen
