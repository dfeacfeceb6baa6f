#include "model/router.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace moegen {
namespace {

MlpSpec routed(int num_experts, int top_k, bool renormalize) {
  MlpSpec mlp;
  mlp.num_experts = num_experts;
  mlp.top_k = top_k;
  mlp.router.renormalize = renormalize;
  return mlp;
}

TEST(Route, TakesTheBestAndBreaksTiesByIndex) {
  std::vector<float> logits{1, 3, 3, 0, 2};
  int32_t experts[3];
  float weights[3];
  choose_experts(reference_kernels(), routed(5, 3, false), logits.data(), nullptr, experts, weights);
  EXPECT_EQ(experts[0], 1);
  EXPECT_EQ(experts[1], 2);
  EXPECT_EQ(experts[2], 4);
  const double sum = std::exp(1.0) + 2 * std::exp(3.0) + 1 + std::exp(2.0);
  EXPECT_NEAR(weights[0], std::exp(3.0) / sum, 1e-6);
  EXPECT_NEAR(weights[2], std::exp(2.0) / sum, 1e-6);
  logits = {1, 3, 3, 0, 2};
  choose_experts(reference_kernels(), routed(5, 3, true), logits.data(), nullptr, experts, weights);
  EXPECT_NEAR(weights[0] + weights[1] + weights[2], 1, 1e-6);
}

TEST(Route, NanStillGivesDistinctExperts) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const Kernels* kernels : usable_kernels()) {
    std::vector<float> logits(8, nan);
    int32_t experts[4];
    float weights[4];
    choose_experts(*kernels, routed(8, 4, true), logits.data(), nullptr, experts, weights);
    for (const int32_t e : experts) EXPECT_TRUE(e >= 0 && e < 8);
  }
}

float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

TEST(Route, TheBiasChoosesButDoesNotWeigh) {
  for (const auto scores : {RouterSpec::Scores::sigmoid, RouterSpec::Scores::softmax}) {
    MlpSpec mlp = routed(4, 2, false);
    mlp.router.scores = scores;
    mlp.router.correction_bias = true;
    mlp.router.scaling = 2.5F;
    const std::vector<float> bias{0, 0, 0, 5};
    std::vector<float> logits{1, 0, -1, -2};
    int32_t experts[2];
    float weights[2];
    choose_experts(reference_kernels(), mlp, logits.data(), bias.data(), experts, weights);
    EXPECT_EQ(experts[0], 3);
    EXPECT_EQ(experts[1], 0);
    const double sum = std::exp(1.0) + 1 + std::exp(-1.0) + std::exp(-2.0);
    const bool sigmoids = scores == RouterSpec::Scores::sigmoid;
    EXPECT_NEAR(weights[0], 2.5 * (sigmoids ? sigmoid(-2) : std::exp(-2.0) / sum), 1e-6);
    EXPECT_NEAR(weights[1], 2.5 * (sigmoids ? sigmoid(1) : std::exp(1.0) / sum), 1e-6);
  }
}

TEST(Route, ScalesWhatItHasRenormalised) {
  MlpSpec mlp = routed(4, 2, true);
  mlp.router.scaling = 3;
  std::vector<float> logits{1, 0, -1, -2};
  int32_t experts[2];
  float weights[2];
  choose_experts(reference_kernels(), mlp, logits.data(), nullptr, experts, weights);
  EXPECT_NEAR(weights[0] + weights[1], 3, 1e-6);
}

// Three groups of three. The best expert is in the first, whose others are poor; the third has the best two.
TEST(Route, GroupsAreChosenByTheirBestOrByTheirBestTwo) {
  const std::vector<float> logits{9, -9, -9, 5, 4, -9, 8, 8, -9};
  const auto experts_of = [&](int group_best, int top_groups) {
    MlpSpec mlp = routed(9, 3, false);
    mlp.router.scores = RouterSpec::Scores::sigmoid;
    mlp.router.num_groups = 3;
    mlp.router.group_best = group_best;
    mlp.router.top_groups = top_groups;
    std::vector<float> copy = logits;
    std::vector<int32_t> experts(3);
    float weights[3];
    choose_experts(reference_kernels(), mlp, copy.data(), nullptr, experts.data(), weights);
    return experts;
  };
  EXPECT_EQ(experts_of(1, 1), (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(experts_of(1, 2), (std::vector<int32_t>{0, 6, 7}));
  EXPECT_EQ(experts_of(2, 1), (std::vector<int32_t>{6, 7, 8}));
}

}  // namespace
}  // namespace moegen
