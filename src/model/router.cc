#include "model/router.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace moegen {
namespace {

constexpr float kOut = -1;  // no score is negative

// Index of the largest value(i) of those i in [begin, end) that may(i); -1 where there is none.
template <typename May, typename Value>
int best_of(int begin, int end, const May& may, const Value& value) {
  int best = -1;
  for (int i = begin; i < end; ++i) {
    if (may(i) && (best < 0 || value(i) > value(best))) best = i;
  }
  return best;
}

// Takes all but the best groups out.
void keep_best_groups(const RouterSpec& router, int num_experts, float* scores, const float* bias) {
  const int size = num_experts / router.num_groups;
  const auto value = [&](int e) { return bias != nullptr ? scores[e] + bias[e] : scores[e]; };
  std::array<float, RouterSpec::kMaxGroups> sums{};
  for (int g = 0; g < router.num_groups; ++g) {
    int first = -1;
    for (int j = 0; j < router.group_best; ++j) {
      const int best = best_of(
          g * size, (g + 1) * size, [&](int e) { return e != first; }, value);
      if (best >= 0) sums[static_cast<size_t>(g)] += value(best);
      first = best;
    }
  }
  std::array<bool, RouterSpec::kMaxGroups> kept{};
  for (int j = 0; j < router.top_groups; ++j) {
    const int best = best_of(
        0, router.num_groups, [&](int g) { return !kept[static_cast<size_t>(g)]; }, [&](int g) { return sums[static_cast<size_t>(g)]; });
    kept[static_cast<size_t>(best)] = true;
  }
  for (int g = 0; g < router.num_groups; ++g) {
    if (!kept[static_cast<size_t>(g)]) std::fill_n(scores + g * size, size, kOut);
  }
}

// Whether expert e is not among the first j chosen.
bool is_left(const int32_t* experts, int j, int e) { return std::find(experts, experts + j, e) == experts + j; }

// The one of the largest logit among those that are left.
int best_left(const MlpSpec& mlp, const float* logits, const int32_t* experts, int j) {
  return best_of(
      0, mlp.num_experts, [&](int e) { return is_left(experts, j, e); }, [&](int e) { return logits[e]; });
}

void mix_sparsely(const MlpSpec& mlp, const float* logits, int32_t* experts, float* weights) {
  for (int j = 0; j < mlp.top_k; ++j) {
    const int best = best_left(mlp, logits, experts, j);
    const float top = logits[best];
    float sum = 0;
    for (int e = 0; e < mlp.num_experts; ++e) {
      const bool far = (top - logits[e]) / std::max(std::abs(logits[e]), top) > 2 * mlp.router.jitter;
      if (is_left(experts, j, e) && !far) sum += std::exp(logits[e] - top);
    }
    experts[j] = best;
    weights[j] = 1 / sum;
  }
}

// Sigmoid rises with the logit, of which it leaves no difference where it is 1 in float32.
void choose_by_logit(const MlpSpec& mlp, const float* logits, int32_t* experts, float* weights) {
  for (int j = 0; j < mlp.top_k; ++j) {
    experts[j] = best_left(mlp, logits, experts, j);
    weights[j] = 1 / (1 + std::exp(-logits[experts[j]]));
  }
}

void choose_by_score(const Kernels& kernels, const MlpSpec& mlp, float* logits, const float* bias, int32_t* experts, float* weights) {
  const RouterSpec& router = mlp.router;
  float* scores = logits;
  float sum = 1;  // that scores are still to be divided by
  if (router.scores == RouterSpec::Scores::sigmoid) {
    for (int e = 0; e < mlp.num_experts; ++e) scores[e] = 1 / (1 + std::exp(-logits[e]));
  } else {
    sum = kernels.exp_sum(logits, kernels.maximum(logits, mlp.num_experts), scores, mlp.num_experts);
    if (bias != nullptr) {
      for (int e = 0; e < mlp.num_experts; ++e) scores[e] /= sum;
      sum = 1;
    }
  }
  if (router.num_groups > 1) keep_best_groups(router, mlp.num_experts, scores, bias);
  for (int j = 0; j < mlp.top_k; ++j) {
    int best = best_of(
        0, mlp.num_experts, [&](int e) { return scores[e] >= 0; }, [&](int e) { return bias != nullptr ? scores[e] + bias[e] : scores[e]; });
    if (best < 0) best = j;  // a NaN in the hidden state: any expert, the result is NaN anyway
    experts[j] = best;
    weights[j] = scores[best] / sum;
    scores[best] = kOut;
  }
}

}  // namespace

void choose_experts(const Kernels& kernels, const MlpSpec& mlp, float* logits, const float* bias, int32_t* experts, float* weights) {
  const RouterSpec& router = mlp.router;
  if (router.scores == RouterSpec::Scores::sparse_mixer) return mix_sparsely(mlp, logits, experts, weights);
  if (router.scores == RouterSpec::Scores::sigmoid && bias == nullptr && router.num_groups == 1) {
    choose_by_logit(mlp, logits, experts, weights);
  } else {
    choose_by_score(kernels, mlp, logits, bias, experts, weights);
  }
  float chosen = 0;
  for (int j = 0; j < mlp.top_k; ++j) chosen += weights[j];
  const float factor = router.scaling;
  for (int j = 0; j < mlp.top_k; ++j) weights[j] = (router.renormalize ? weights[j] / chosen : weights[j]) * factor;
}

}  // namespace moegen
