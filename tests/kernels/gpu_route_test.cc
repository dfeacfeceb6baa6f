#include <array>
#include <limits>

#include "base/checked.h"
#include "model/router.h"
#include "tests/kernels/gpu_kernels_test.h"

namespace moegen {
namespace {

// Sorting, gathering and the weighted sum back.
TEST_P(GpuKernelsTest, SortGatherCombine) {
  for (const auto& [tokens, experts, k, width] : std::vector<std::array<int, 4>>{{1, 2, 1, 4}, {200, 6, 3, 10}, {65, 300, 8, 3}}) {
    std::vector<int32_t> chosen;
    for (int t = 0; t < tokens; ++t) {
      for (int j = 0; j < k; ++j)
        chosen.push_back(static_cast<int32_t>((rng() % static_cast<unsigned>(experts) + static_cast<unsigned>(j)) % static_cast<unsigned>(experts)));
    }
    const auto n = static_cast<size_t>(tokens * k);
    auto* begin = put(std::vector<int32_t>(static_cast<size_t>(experts + 1)));
    auto* row_of = put(std::vector<int32_t>(n));
    auto* row_token = put(std::vector<int32_t>(n));
    auto* row_weight = put(std::vector<float>(n));
    const auto [weight, weights] = random(DType::f32, n);
    kernels.sort(*device, stream,
                 {.chosen = put(chosen),
                  .tokens = tokens,
                  .num_experts = experts,
                  .top_k = k,
                  .counts = put(std::vector<int32_t>(static_cast<size_t>(ceil_div<int64_t>(tokens, kGpuSortTokens) * experts))),
                  .expert_begin = begin,
                  .row_of = row_of,
                  .row_token = row_token,
                  .weight = static_cast<const float*>(weight),
                  .row_weight = row_weight});
    std::vector<int32_t> order(n);
    for (size_t i = 0; i < n; ++i) order[i] = static_cast<int32_t>(i);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return chosen[static_cast<size_t>(a)] < chosen[static_cast<size_t>(b)]; });
    const auto have_weight = get<float>(row_weight, n);
    const auto have_token = get<int32_t>(row_token, n), have_row = get<int32_t>(row_of, n),
               have_begin = get<int32_t>(begin, static_cast<size_t>(experts + 1));
    for (size_t r = 0; r < n; ++r) {
      ASSERT_EQ(have_token[r], order[r] / k);
      ASSERT_EQ(have_row[static_cast<size_t>(order[r])], static_cast<int32_t>(r));
      ASSERT_EQ(have_weight[r], weights[static_cast<size_t>(order[r])]);
    }
    for (int e = 0; e <= experts; ++e)
      EXPECT_EQ(have_begin[static_cast<size_t>(e)], std::count_if(chosen.begin(), chosen.end(), [&, e = e](int32_t c) { return c < e; }));
    const auto [x, xs] = random(DType::bf16, static_cast<size_t>(tokens * width));
    void* rows = room(DType::bf16, n * static_cast<size_t>(width));
    kernels.move(
        *device, stream,
        {.x = x, .x_stride = width, .picked = row_token, .y = rows, .y_stride = width, .rows = tokens * k, .width = width, .all_rows = tokens});
    auto* hidden = put(std::vector<float>(static_cast<size_t>(tokens * width), 1));
    kernels.combine(*device, stream,
                    {.hidden = hidden,
                     .tokens = tokens,
                     .width = width,
                     .out = rows,
                     .row_of = row_of,
                     .weight = static_cast<const float*>(weight),
                     .top_k = k,
                     .scale = 0.5F});
    std::vector<float> want;
    for (int t = 0; t < tokens; ++t) {
      float sum = 0;
      for (int j = 0; j < k; ++j) sum += 0.5F * weights[static_cast<size_t>(t * k + j)];
      for (int d = 0; d < width; ++d) want.push_back(1 + sum * xs[static_cast<size_t>(t * width + d)]);
    }
    expect_near(get<float>(hidden, want.size()), want, 1e-4, "combine");
    // Weighed before they are gathered, and added up as they are: the same.
    void* weighed = room(DType::f32, n * static_cast<size_t>(width));
    kernels.move(*device, stream,
                 {.x = put(xs),
                  .x_stride = width,
                  .picked = row_token,
                  .y = weighed,
                  .y_stride = width,
                  .rows = tokens * k,
                  .width = width,
                  .all_rows = tokens,
                  .dtype = DType::f32,
                  .scale = row_weight});
    auto* other = put(std::vector<float>(static_cast<size_t>(tokens * width), 1));
    kernels.combine(
        *device, stream,
        {.hidden = other, .tokens = tokens, .width = width, .out = weighed, .act = DType::f32, .row_of = row_of, .top_k = k, .scale = 0.5F});
    expect_near(get<float>(other, want.size()), want, 1e-4, "combine what was weighed before");
  }
}

TEST_P(GpuKernelsTest, Route) {
  struct Case {
    int experts, k, groups, top_groups, group_best;
    bool sigmoid, bias, renormalize, mixer = false, scales = false;
  };
  for (const Case& c : std::vector<Case>{{8, 2, 1, 1, 1, false, false, true},
                                         {128, 8, 1, 1, 1, false, false, true},
                                         {60, 4, 1, 1, 1, false, true, false},
                                         {256, 8, 8, 4, 2, true, true, true},
                                         {16, 3, 4, 2, 1, false, false, false},
                                         {33, 5, 1, 1, 1, true, false, true},
                                         {2, 2, 1, 1, 1, false, false, false, true},
                                         {16, 2, 1, 1, 1, false, false, false, true},
                                         {70, 4, 1, 1, 1, false, false, false, true},
                                         {40, 6, 1, 1, 1, false, false, true, false, true}}) {
    constexpr int kTokens = 21;
    MlpSpec mlp;
    mlp.num_experts = c.experts;
    mlp.top_k = c.k;
    mlp.router.scores = c.mixer ? RouterSpec::Scores::sparse_mixer : c.sigmoid ? RouterSpec::Scores::sigmoid : RouterSpec::Scores::softmax;
    mlp.router.jitter = 0.2F;
    mlp.router.num_groups = c.groups;
    mlp.router.top_groups = c.top_groups;
    mlp.router.group_best = c.group_best;
    mlp.router.renormalize = c.renormalize;
    mlp.router.scaling = c.mixer ? 1 : 2.5F;
    auto [logits, host] = random(DType::f32, static_cast<size_t>(kTokens * c.experts));
    const auto [scales, scales_host] = random(DType::bf16, static_cast<size_t>(c.experts));
    const auto [bias, biases] = random(DType::f32, static_cast<size_t>(c.experts), 0.01F);
    auto* chosen = put(std::vector<int32_t>(static_cast<size_t>(kTokens * c.k)));
    auto* weight = put(std::vector<float>(static_cast<size_t>(kTokens * c.k)));
    kernels.route(*device, stream,
                  {.logits = static_cast<float*>(const_cast<void*>(logits)),
                   .tokens = kTokens,
                   .num_experts = c.experts,
                   .top_k = c.k,
                   .scores = c.mixer     ? GpuRoute::Scores::sparse_mixer
                             : c.sigmoid ? GpuRoute::Scores::sigmoid
                                         : GpuRoute::Scores::softmax,
                   .jitter = 0.2F,
                   .bias = c.bias ? bias : nullptr,
                   .num_groups = c.groups,
                   .top_groups = c.top_groups,
                   .group_best = c.group_best,
                   .renormalize = c.renormalize,
                   .scaling = mlp.router.scaling,
                   .expert_scales = c.scales ? scales : nullptr,
                   .expert_scales_dtype = DType::bf16,
                   .chosen = chosen,
                   .weight = weight});
    const auto have = get<int32_t>(chosen, static_cast<size_t>(kTokens * c.k));
    const auto have_weight = get<float>(weight, have.size());
    for (int t = 0; t < kTokens; ++t) {
      std::vector<int32_t> want(static_cast<size_t>(c.k));
      std::vector<float> weights(static_cast<size_t>(c.k));
      choose_experts(reference_kernels(), mlp, host.data() + t * c.experts, c.bias ? biases.data() : nullptr, want.data(), weights.data());
      for (int j = 0; c.scales && j < c.k; ++j) weights[static_cast<size_t>(j)] *= scales_host[static_cast<size_t>(want[static_cast<size_t>(j)])];
      for (int j = 0; j < c.k; ++j) {
        ASSERT_EQ(have[static_cast<size_t>(t * c.k + j)], want[static_cast<size_t>(j)]) << c.experts << " experts, token " << t;
        ASSERT_NEAR(have_weight[static_cast<size_t>(t * c.k + j)], weights[static_cast<size_t>(j)],
                    1e-5F * std::abs(weights[static_cast<size_t>(j)]) + 1e-7F);
      }
    }
  }
}

// Equal scores: the lower index; a NaN: any experts, and an end.
TEST_P(GpuKernelsTest, RouteTiesAndNaNs) {
  std::vector<float> logits(3 * 40, 1);
  std::fill_n(logits.begin() + 40, 40, std::numeric_limits<float>::quiet_NaN());
  auto* chosen = put(std::vector<int32_t>(3 * 4));
  for (const auto scores : {GpuRoute::Scores::softmax, GpuRoute::Scores::sigmoid, GpuRoute::Scores::sparse_mixer}) {
    kernels.route(*device, stream,
                  {.logits = put(logits),
                   .tokens = 3,
                   .num_experts = 40,
                   .top_k = 4,
                   .scores = scores,
                   .chosen = chosen,
                   .weight = put(std::vector<float>(12))});
    for (const int32_t token : {0, 2}) {
      const auto have = get<int32_t>(chosen + token * 4, 4);
      EXPECT_EQ(have, (std::vector<int32_t>{0, 1, 2, 3}));
    }
    for (const int32_t e : get<int32_t>(chosen, 12)) EXPECT_TRUE(e >= 0 && e < 40);
  }
}

}  // namespace
}  // namespace moegen
