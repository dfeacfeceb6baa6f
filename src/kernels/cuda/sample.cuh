#pragma once

#include "kernels/cuda/cuda.cuh"

namespace moegen::gpu {

/// Rises with x, from 1 on, so that bounds are found by halving. A NaN is as minus infinity.
__device__ inline uint32_t order_of(float x) {
  if (!(x > -INFINITY)) return 1;
  const uint32_t bits = __float_as_uint(x + 0.0F);  // one zero
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
}

/// exp(x - top); nothing of what is no number.
__device__ inline float weight_of(float x, float top) { return x > -INFINITY ? expf(x - top) : 0.0F; }

/// f over a block's values, in an order of its own, for all threads. `room` has a T for each warp.
template <int kWarps, typename T, typename F>
__device__ T block_fold(T x, void* room, const F& f) {
  for (int step = 16; step > 0; step /= 2) x = f(x, __shfl_xor_sync(kAllLanes, x, step));
  T* of_warps = static_cast<T*>(room);
  __syncthreads();  // what was there has been read
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = x;
  __syncthreads();
  x = of_warps[0];
  for (int w = 1; w < kWarps; ++w) x = f(x, of_warps[w]);
  return x;
}

/// A warp a segment: grid (ceil(segments / kWarps), rows). Logits are read once here; what comes after reads few of them again.
struct SegmentKernel {
  using Args = GpuSummarize;
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kEach = kGpuSegmentIds / 32;
  __device__ static float sum(const float* x, float top) {
    float sum = 0;
    MOEGEN_UNROLL
    for (int i = 0; i < kEach; ++i) sum += weight_of(x[i], top);
    return warp_sum(sum);
  }
  __device__ static void run(const Args& a) {
    const int64_t row = blockIdx.y, segment = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
    const LogitQuery query = a.queries[row];
    if (query.whole || segment >= a.segments_of_row()) return;
    float x[kEach], top = -INFINITY;
    MOEGEN_UNROLL
    for (int i = 0; i < kEach; ++i) {
      const int64_t id = segment * kGpuSegmentIds + 32 * i + threadIdx.x % 32;
      x[i] = id < a.width ? a.logits[row * a.width + id] : -INFINITY;
      top = fmaxf(top, x[i]);
    }
    GpuSegment out{warp_max(top), 0, 0};
    if (query.logprob) out.sum = sum(x, out.top);
    if (query.temperature > 0) {
      MOEGEN_UNROLL
      for (int i = 0; i < kEach; ++i) x[i] /= query.temperature;
      out.heated_sum = sum(x, out.top / query.temperature);
    }
    if (threadIdx.x % 32 == 0) a.segments[row * a.segments_of_row() + segment] = out;
  }
};

/// A block a row: from its segments, and from the logits of those that matter.
struct SummaryKernel {
  using Args = GpuSummarize;
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / 32;
  struct Found {
    uint32_t order;
    int32_t id;
  };
  struct Room {
    double folds[kWarps];
    int above[kWarps], equal[kWarps];
    int32_t drawn;
    Found found[kThreads];
  };

  struct Row {
    const float* logits;
    const GpuSegment* segments;
    int64_t width, num_segments;
    Room& room;

    /// f(id, order) for all ids, by rising id, of those of the warp's segments that have any of that order; 0 is the order of no id. A warp
    /// has segments side by side, its lanes call f together.
    template <typename F>
    __device__ void visit(uint32_t least, const F& f) const {
      const int64_t each = (num_segments + kWarps - 1) / kWarps, begin = each * (threadIdx.x / 32), end = min(num_segments, begin + each);
      const unsigned lane = threadIdx.x % 32;
      for (int64_t first = begin; first < end; first += 32) {
        unsigned some = __ballot_sync(kAllLanes, first + lane < end && order_of(segments[first + lane].top) >= least);
        for (; some != 0; some &= some - 1) {
          const int64_t id = (first + __ffs(static_cast<int>(some)) - 1) * kGpuSegmentIds + lane;
          MOEGEN_UNROLL
          for (int i = 0; i < kGpuSegmentIds; i += 32) f(static_cast<int32_t>(id + i), id + i < width ? order_of(logits[id + i]) : 0);
        }
      }
    }
    template <typename T>
    __device__ T sum(T x) const {
      return block_fold<kWarps>(x, room.folds, [](T a, T b) { return a + b; });
    }
    /// Of all ids, those of that order or a higher one.
    __device__ int count(uint32_t least) const {
      int n = 0;
      visit(least, [&](int32_t, uint32_t order) { n += order >= least ? 1 : 0; });
      return sum(n);
    }
    __device__ int count_segments(uint32_t least) const {
      int n = 0;
      for (int64_t s = threadIdx.x; s < num_segments; s += kThreads) n += order_of(segments[s].top) >= least ? 1 : 0;
      return sum(n);
    }
  };

  /// A bound, `low` at least, that `wanted` of what is counted reach, and `most` at most unless more are equal to it; `low` where fewer do.
  template <typename Count>
  __device__ static uint32_t bound(uint32_t low, uint32_t top, int wanted, int most, const Count& count) {
    uint32_t high = top + 1;
    for (uint32_t tried = low;; tried = low + (high - low) / 2) {
      const int n = count(tried);
      (n >= wanted ? low : high) = tried;
      if ((n >= wanted && n <= most) || high <= low + 1) return low;
    }
  }

  /// Those that reach the bound, those above it first; of more than there is room for, those equal to it that have the lowest ids. Their number.
  __device__ static int collect(const Row& row, uint32_t bound) {
    Room& room = row.room;
    const unsigned warp = threadIdx.x / 32;
    int above = 0, equal = 0;
    row.visit(bound, [&](int32_t, uint32_t order) {
      above += __popc(__ballot_sync(kAllLanes, order > bound));
      equal += __popc(__ballot_sync(kAllLanes, order == bound));
    });
    if (threadIdx.x % 32 == 0) {
      room.above[warp] = above;
      room.equal[warp] = equal;
    }
    __syncthreads();
    int at_above = 0, at_equal = 0, all = 0;
    for (unsigned w = 0; w < kWarps; ++w) {
      at_above += w < warp ? room.above[w] : 0;
      at_equal += room.above[w] + (w < warp ? room.equal[w] : 0);
      all += room.above[w] + room.equal[w];
    }
    const unsigned before = (1U << threadIdx.x % 32) - 1;
    row.visit(bound, [&](int32_t id, uint32_t order) {
      const unsigned are_above = __ballot_sync(kAllLanes, order > bound), are_equal = __ballot_sync(kAllLanes, order == bound);
      const int at = order > bound ? at_above + __popc(are_above & before) : at_equal + __popc(are_equal & before);
      if (order >= bound && at < kThreads) room.found[at] = {order, id};
      at_above += __popc(are_above);
      at_equal += __popc(are_equal);
    });
    __syncthreads();
    return min(all, kThreads);
  }

  /// The best, in the order of the sampler. Each of as many segments with the highest tops has one logit that reaches the lowest of these tops: it
  /// is a bound for the best, and few others reach it.
  __device__ static void find_candidates(const Row& row, uint32_t top, LogitCandidate* out) {
    const int wanted = static_cast<int>(min(row.width, static_cast<int64_t>(kLogitCandidates)));
    const uint32_t of_segments = bound(1, top, wanted, 2 * wanted, [&](uint32_t least) { return row.count_segments(least); });
    const int n = collect(row, bound(of_segments, top, wanted, kThreads, [&](uint32_t least) { return row.count(least); }));
    if (static_cast<int>(threadIdx.x) >= n) return;
    const Found own = row.room.found[threadIdx.x];
    int rank = 0;
    for (int i = 0; i < n; ++i) {
      const Found other = row.room.found[i];
      rank += other.order > own.order || (other.order == own.order && other.id < own.id) ? 1 : 0;
    }
    if (rank < wanted) out[rank] = {row.logits[own.id], own.id};
  }

  /// The first of [begin, end) whose weight, with those before it, is more than `left`; where roundings leave more than there is, the last that
  /// weighs anything. By one warp, each lane a part; `left` becomes what is left before it.
  template <typename Weight>
  __device__ static int64_t draw(int64_t begin, int64_t end, double& left, const Weight& weight) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    while (end - begin > 1) {
      const int64_t each = (end - begin + 31) / 32, first = begin + lane * each, last = min(end, first + each);
      double own = 0;
      for (int64_t i = first; i < last; ++i) own += weight(i);
      const double upto = warp_scan(own);
      const unsigned weigh = __ballot_sync(kAllLanes, own > 0), reach = __ballot_sync(kAllLanes, own > 0 && upto > left);
      if (weigh == 0) break;
      const int drawn = reach != 0 ? __ffs(static_cast<int>(reach)) - 1 : 31 - __clz(static_cast<int>(weigh));
      const double before = __shfl_sync(kAllLanes, upto - own, drawn);
      left = reach != 0 ? left - before : INFINITY;
      begin += drawn * each;
      end = min(end, begin + each);
    }
    return begin;
  }

  __device__ static void run(const Args& a) {
    const LogitQuery query = a.queries[blockIdx.x];
    if (query.whole) return;
    Room& room = *reinterpret_cast<Room*>(MOEGEN_SHARED);
    const int64_t num_segments = a.segments_of_row();
    const Row row{a.logits + blockIdx.x * a.width, a.segments + blockIdx.x * num_segments, a.width, num_segments, room};
    LogitSummary out;
    out.top = -INFINITY;
    double sum = 0, heated_sum = 0;
    for (int64_t s = threadIdx.x; s < num_segments; s += kThreads) out.top = fmaxf(out.top, row.segments[s].top);
    out.top = block_fold<kWarps>(out.top, room.folds, [](float x, float y) { return fmaxf(x, y); });
    const float hot_top = out.top / query.temperature;
    const auto hot_weight = [&](int64_t s) {
      return static_cast<double>(weight_of(row.segments[s].top / query.temperature, hot_top)) * static_cast<double>(row.segments[s].heated_sum);
    };
    for (int64_t s = threadIdx.x; s < num_segments; s += kThreads) {
      if (query.logprob) sum += static_cast<double>(weight_of(row.segments[s].top, out.top)) * static_cast<double>(row.segments[s].sum);
      if (query.temperature > 0) heated_sum += hot_weight(s);
    }
    out.sum = static_cast<float>(row.sum(sum));
    heated_sum = row.sum(heated_sum);
    out.heated_sum = static_cast<float>(heated_sum);
    const uint32_t top = order_of(out.top);
    out.id = max(query.id, -1);
    if (query.id == LogitQuery::kBest && isfinite(out.top)) {
      int32_t best = static_cast<int32_t>(a.width);
      row.visit(top, [&](int32_t id, uint32_t order) { best = order == top ? min(best, id) : best; });
      out.id = block_fold<kWarps>(best, room.folds, [](int32_t x, int32_t y) { return min(x, y); });
    }
    if (query.id == LogitQuery::kDrawn && isfinite(hot_top)) {
      if (threadIdx.x < 32) {
        double left = query.u * heated_sum;
        const int64_t first = draw(0, num_segments, left, hot_weight) * kGpuSegmentIds;
        const auto weight = [&](int64_t id) { return static_cast<double>(weight_of(row.logits[id] / query.temperature, hot_top)); };
        const int64_t drawn = draw(first, min(a.width, first + kGpuSegmentIds), left, weight);
        if (threadIdx.x == 0) room.drawn = static_cast<int32_t>(drawn);
      }
      __syncthreads();
      out.id = room.drawn;
    }
    if (out.id >= 0 && query.logprob) {
      out.value = row.logits[out.id];
      out.rank = 1 + row.count(order_of(out.value) + 1);
    }
    if (threadIdx.x == 0) a.summaries[blockIdx.x] = out;
    if (query.candidates) find_candidates(row, top, a.candidates + static_cast<int64_t>(blockIdx.x) * kLogitCandidates);
  }
};

}  // namespace moegen::gpu
