#include "plan/weight_plan.h"

#include <gtest/gtest.h>

#include <random>

namespace moegen {
namespace {

constexpr uint64_t kFixed = 5000 << 10;

// `layers` layers of `experts` units of 96 KiB, in slots of 100 KiB.
std::vector<WeightUnit> units_of(int layers, int experts) {
  std::vector<WeightUnit> out;
  for (int l = 0; l < layers; ++l) {
    for (int e = 0; e < experts; ++e) {
      WeightUnit u;
      u.layer = l;
      u.expert = e;
      u.resident_bytes = 96 << 10;
      u.slot_bytes = 100 << 10;
      u.ranges = {{0, 0, u.resident_bytes, 0}};
      out.push_back(u);
    }
  }
  return out;
}

uint64_t whole(const std::vector<WeightUnit>& units) { return kFixed + units.size() * (96 << 10); }

TEST(WeightPlan, WhatFitsStays) {
  const auto units = units_of(4, 16);
  const WeightPlan plan = plan_weights({units, whole(units), {}}, whole(units));
  EXPECT_TRUE(plan.streamed.empty());
  EXPECT_EQ(plan.slots, 0);
  EXPECT_EQ(plan.bytes(), whole(units));
}

TEST(WeightPlan, TheLeastIsEverythingElseAndTwoSlots) {
  const auto units = units_of(4, 16);
  const WeightPlanInput in{units, whole(units), {}};
  EXPECT_EQ(least_weight_bytes(in), kFixed + 2 * (100 << 10));
  const WeightPlan plan = plan_weights(in, least_weight_bytes(in));
  EXPECT_EQ(plan.streamed.size(), units.size());
  EXPECT_EQ(plan.slots, 2);
  EXPECT_EQ(plan.streamed_bytes, units.size() * (96 << 10));
  EXPECT_EQ(least_weight_bytes({{}, 1234, {}}), 1234U) << "where nothing can stream, all is needed";
}

TEST(WeightPlan, AnyBudgetIsKeptAndFilledEvenly) {
  std::mt19937 random(4);
  for (int i = 0; i < 500; ++i) {
    const auto units = units_of(1 + static_cast<int>(random() % 8), 1 + static_cast<int>(random() % 40));
    WeightPlanInput in{units, whole(units), {}};
    if (random() % 3 == 0) in.slots = 1 + random() % 5;
    const uint64_t least = least_weight_bytes(in);
    const uint64_t budget = least + random() % (whole(units) - std::min(least, whole(units)) + 1);
    const WeightPlan plan = plan_weights(in, budget);
    ASSERT_LE(plan.bytes(), budget);
    ASSERT_EQ(plan.resident_bytes, whole(units) - plan.streamed.size() * (96 << 10));
    if (plan.streamed.empty()) continue;
    ASSERT_GE(plan.slots, 1);
    ASSERT_LE(plan.slots, static_cast<int>(plan.streamed.size()));
    if (!in.slots) {
      ASSERT_GT(plan.bytes() + 2 * (100 << 10), std::min(budget, plan.bytes() + plan.streamed.size() * (96 << 10))) << "nothing much is left over";
    }
    std::vector<int> resident(8);
    std::vector<int> streamed(8);
    for (size_t u = 0, s = 0; u < units.size(); ++u) {
      const bool streams = s < plan.streamed.size() && plan.streamed[s] == static_cast<int32_t>(u);
      s += streams ? 1 : 0;
      ++(streams ? streamed : resident)[static_cast<size_t>(units[u].layer)];
      ASSERT_TRUE(streams || streamed[static_cast<size_t>(units[u].layer)] == 0) << "a layer's first stay";
    }
    const auto layers = static_cast<size_t>(units.back().layer) + 1;
    const auto [few, many] = std::minmax_element(resident.begin(), resident.begin() + static_cast<int64_t>(layers));
    ASSERT_LE(*many - *few, 1) << "as many in every layer";
  }
}

TEST(WeightPlan, MoreMemoryStreamsLess) {
  const auto units = units_of(6, 32);
  const WeightPlanInput in{units, whole(units), {}};
  uint64_t before = whole(units);
  for (uint64_t budget = least_weight_bytes(in); budget <= whole(units); budget += 50 << 10) {
    const uint64_t now = plan_weights(in, budget).streamed_bytes;
    ASSERT_LE(now, before + (96 << 10)) << "but for the step at which the ring takes a slot";
    before = std::min(before, now);
  }
}

}  // namespace
}  // namespace moegen
