#pragma once

#include "kernels/cuda/cuda.cuh"

namespace moegen::gpu {

/// A warp a token; shared memory [kWarps][num_experts + num_groups].
struct RouteKernel {
  using Args = GpuRoute;
  static constexpr int kWarps = 4;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr float kOut = NAN;

  __device__ static int lane() { return static_cast<int>(threadIdx.x % 32); }
  __device__ static float bias(const Args& a, int e) { return a.bias != nullptr ? load(a.bias, a.bias_dtype, e) : 0; }

  /// logits -> scores; returns what they are still to be divided by. Of SparseMixer the logits.
  __device__ static float score(const Args& a, const float* logits, float* scores) {
    if (a.scores == GpuRoute::Scores::sparse_mixer) {
      for (int e = lane(); e < a.num_experts; e += 32) scores[e] = logits[e];
      return 1;
    }
    if (a.scores == GpuRoute::Scores::sigmoid) {
      for (int e = lane(); e < a.num_experts; e += 32) scores[e] = 1 / (1 + expf(-logits[e]));
      return 1;
    }
    float top = -INFINITY;
    for (int e = lane(); e < a.num_experts; e += 32) top = fmaxf(top, logits[e]);
    top = warp_max(top);
    float sum = 0;
    for (int e = lane(); e < a.num_experts; e += 32) sum += scores[e] = expf(logits[e] - top);
    sum = warp_sum(sum);
    if (a.bias == nullptr) return sum;
    for (int e = lane(); e < a.num_experts; e += 32) scores[e] /= sum;
    return 1;
  }

  /// The sum of the best values of a group.
  __device__ static float group_sum(const Args& a, const float* scores, int first, int size) {
    float sum = 0;
    uint64_t used[kGpuMaxExperts / 64] = {};
    for (int j = 0; j < a.group_best; ++j) {
      Best best{0, -1};
      for (int e = 0; e < size; ++e) {
        if ((used[e / 64] >> (e % 64) & 1U) != 0) continue;
        best = better(best, {scores[first + e] + bias(a, first + e), e});
      }
      if (best.index < 0) return sum;
      used[best.index / 64] |= uint64_t{1} << (best.index % 64);
      sum += best.value;
    }
    return sum;
  }

  /// Takes all but the best groups out.
  __device__ static void keep_groups(const Args& a, float* scores, float* sums) {
    const int size = a.num_experts / a.num_groups;
    for (int g = lane(); g < a.num_groups; g += 32) sums[g] = group_sum(a, scores, g * size, size);
    __syncwarp();
    for (int j = 0; j < a.top_groups; ++j) {
      Best best{0, -1};
      for (int g = lane(); g < a.num_groups; g += 32) {
        if (!isnan(sums[g])) best = better(best, {sums[g], g});
      }
      best = warp_best(best);
      if (best.index >= 0 && best.index % 32 == lane()) sums[best.index] = NAN;  // kept
      __syncwarp();
    }
    for (int e = lane(); e < a.num_experts; e += 32) {
      if (!isnan(sums[e / size])) scores[e] = kOut;
    }
    __syncwarp();
  }

  /// What SparseMixer gives the best of those that are left: its softmax among those of them that are near.
  __device__ static float share_of_near(const Args& a, const float* logits, float top) {
    float sum = 0;
    for (int e = lane(); e < a.num_experts; e += 32) {
      const bool far = (top - logits[e]) / fmaxf(fabsf(logits[e]), top) > 2 * a.jitter;
      if (!isnan(logits[e]) && !far) sum += expf(logits[e] - top);
    }
    return 1 / warp_sum(sum);
  }

  __device__ static void run(const Args& a) {
    const int64_t token = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
    if (token >= a.tokens) return;  // a whole warp
    float* scores = MOEGEN_SHARED + (threadIdx.x / 32) * static_cast<unsigned>(a.num_experts + a.num_groups);
    const float sum = score(a, a.logits + token * a.num_experts, scores);
    __syncwarp();
    if (a.num_groups > 1) keep_groups(a, scores, scores + a.num_experts);
    float chosen = 0;
    for (int j = 0; j < a.top_k; ++j) {
      Best best{0, -1};
      for (int e = lane(); e < a.num_experts; e += 32) {
        if (!isnan(scores[e])) best = better(best, {scores[e] + bias(a, e), e});
      }
      best = warp_best(best);
      if (best.index < 0) best.index = j;  // a NaN in the hidden state: any expert, the result is NaN anyway
      const float score = scores[best.index];
      const float weight = a.scores == GpuRoute::Scores::sparse_mixer ? share_of_near(a, scores, score) : score / sum;
      chosen += weight;
      __syncwarp();
      if (lane() == 0) {
        a.chosen[token * a.top_k + j] = best.index;
        a.weight[token * a.top_k + j] = weight;
        scores[best.index] = kOut;
      }
      __syncwarp();
    }
    if (lane() != 0) return;
    for (int64_t i = token * a.top_k; i < (token + 1) * a.top_k; ++i) {
      const float weight = (a.renormalize ? a.weight[i] / chosen : a.weight[i]) * a.scaling;
      a.weight[i] = a.expert_scales != nullptr ? weight * load(a.expert_scales, a.expert_scales_dtype, a.chosen[i]) : weight;
    }
  }
};

/// Sorting (token, j) by expert, in three steps without a race: how many of each chunk of tokens go to each expert; where they begin; their places.
struct SortKernel {
  using Args = GpuSort;
  static constexpr int kThreads = 256;
  __device__ static int64_t entry_begin(const Args& a) { return static_cast<int64_t>(blockIdx.x) * kGpuSortTokens * a.top_k; }
  __device__ static int64_t entry_end(const Args& a) {
    const int64_t end = (static_cast<int64_t>(blockIdx.x) + 1) * kGpuSortTokens;
    return (end < a.tokens ? end : a.tokens) * a.top_k;
  }
};

/// A block a chunk.
struct SortCount : SortKernel {
  static constexpr bool kNoBarriers = true;
  __device__ static void run(const Args& a) {
    for (int e = static_cast<int>(threadIdx.x); e < a.num_experts; e += kThreads) {
      int count = 0;
      for (int64_t i = entry_begin(a); i < entry_end(a); ++i) count += a.chosen[i] == e ? 1 : 0;
      a.counts[static_cast<int64_t>(blockIdx.x) * a.num_experts + e] = count;
    }
  }
};

/// One block: counts -> first places within the expert; shared memory [num_experts].
struct SortScan : SortKernel {
  __device__ static void run(const Args& a) {
    int32_t* totals = reinterpret_cast<int32_t*>(MOEGEN_SHARED);
    const int64_t chunks = (a.tokens + kGpuSortTokens - 1) / kGpuSortTokens;
    for (int e = static_cast<int>(threadIdx.x); e < a.num_experts; e += kThreads) {
      int32_t sum = 0;
      for (int64_t c = 0; c < chunks; ++c) {
        const int32_t count = a.counts[c * a.num_experts + e];
        a.counts[c * a.num_experts + e] = sum;
        sum += count;
      }
      totals[e] = sum;
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    int32_t sum = 0;
    for (int e = 0; e < a.num_experts; ++e) {
      a.expert_begin[e] = sum;
      sum += totals[e];
    }
    a.expert_begin[a.num_experts] = sum;
  }
};

/// A block a chunk.
struct SortPlace : SortKernel {
  static constexpr bool kNoBarriers = true;
  __device__ static void run(const Args& a) {
    for (int e = static_cast<int>(threadIdx.x); e < a.num_experts; e += kThreads) {
      int32_t row = a.expert_begin[e] + a.counts[static_cast<int64_t>(blockIdx.x) * a.num_experts + e];
      for (int64_t i = entry_begin(a); i < entry_end(a); ++i) {
        if (a.chosen[i] != e) continue;
        a.row_of[i] = row;
        if (a.row_weight != nullptr) a.row_weight[row] = a.weight[i];
        a.row_token[row++] = static_cast<int32_t>(i / a.top_k);
      }
    }
  }
};

}  // namespace moegen::gpu
