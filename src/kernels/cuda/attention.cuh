#pragma once

#include "kernels/cuda/cuda.cuh"

namespace moegen::gpu {

/// A row (query x head) of a tile, and which keys it sees.
struct AttentionRow {
  int query, head;  // of the tile; query -1: none
  int first, last;  // positions
  __device__ bool sees(int position) const { return position >= first && position <= last; }
};
__device__ inline AttentionRow attention_row(const GpuAttention& a, const GpuTile& tile, int i) {
  const int query = i / a.heads;
  if (query >= tile.count) return {-1, 0, 0, -1};
  const int last = tile.position + query;
  return {query, i % a.heads, static_cast<int>(first_seen(last, a.window, a.chunk)), last};
}

/// A block for kRows rows of a tile and one KV head: grid (tiles, kv heads x row blocks). A warp goes over every
/// kGpuAttentionWarps-th page: lanes are tokens for the scores, elements for the values, so both read what lies side by side. For act float, with
/// products of floats; bf16 has TensorAttentionKernel. S: of K and V, float or int8; kDims: elements of a value that a lane has.
template <typename S, int kBlockRows, int kDims>
struct AttentionKernel {
  using Args = GpuAttention;
  static constexpr int kRows = kBlockRows;
  static constexpr int kWarps = kGpuAttentionWarps;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr bool kScaled = sizeof(S) == 1;

  __device__ static int lane() { return static_cast<int>(threadIdx.x % 32); }
  __device__ static int warp() { return static_cast<int>(threadIdx.x / 32); }

  struct Running {
    float top[kRows], sum[kRows];
    float out[kRows][kDims];
  };

  /// Elements at `first` and at `second`, which is beside it where elements lie in pairs: one load then brings both.
  __device__ static void load_pair(const S* from, int64_t first, int64_t second, float& a, float& b) {
    if constexpr (kScaled) {
      const uint32_t both = load_as<uint16_t>(from + first);
      a = static_cast<float>(static_cast<int8_t>(both));
      b = static_cast<float>(static_cast<int8_t>(both >> 8));
    } else {
      a = widen(from[first]);
      b = widen(from[second]);
    }
  }

  /// scores[r] = q[r] . key, for the lane's token; q: [head_dim][kRows], so that one load brings several rows.
  __device__ static void scores(const Args& a, const S* keys, const float* q, float* out) {
    MOEGEN_UNROLL
    for (int r = 0; r < kRows; ++r) out[r] = 0;
    for (int d = 0; d < a.head_dim; d += 2, q += 2 * kRows) {
      float k0, k1;
      load_pair(keys, key_index(kDTypeOf<S>, lane(), d), key_index(kDTypeOf<S>, lane(), d + 1), k0, k1);
      MOEGEN_UNROLL
      for (int r = 0; r < kRows; ++r) out[r] = fmaf(q[kRows + r], k1, fmaf(q[r], k0, out[r]));
    }
  }

  __device__ static float value(const Args& a, const S* keys, int t, int d) {
    if (a.latent_dim > 0) return widen(keys[key_index(kDTypeOf<S>, t, d)]);
    return widen(keys[kPageTokens * a.head_dim + value_index(kDTypeOf<S>, a.head_dim, t, d)]);
  }
  /// Of tokens t, which is even, and t + 1.
  __device__ static void values(const Args& a, const S* keys, int t, int d, float& v0, float& v1) {
    if (a.latent_dim > 0) {
      v0 = value(a, keys, t, d);
      v1 = value(a, keys, t + 1, d);
    } else {
      load_pair(keys + kPageTokens * a.head_dim, value_index(kDTypeOf<S>, a.head_dim, t, d), value_index(kDTypeOf<S>, a.head_dim, t + 1, d), v0, v1);
    }
  }

  /// The softmax goes on over a page; `p`: room for [kPageTokens][kRows], of the warp.
  __device__ static void page(const Args& a, const std::byte* kv, int position, const AttentionRow* rows, const float* q, float* p, Running& run) {
    const S* keys = reinterpret_cast<const S*>(kv);
    const float* scales = reinterpret_cast<const float*>(kv + kv_scale_offset(a.head_dim));
    float s[kRows];
    scores(a, keys, q, s);
    const float key_scale = kScaled ? scales[lane()] * a.scale : a.scale;
    int last = -1;  // token that some row sees
    MOEGEN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int at = position + lane();
      const bool seen = rows[r].sees(at);
      const float score = seen ? s[r] * key_scale : -INFINITY;
      const float top = fmaxf(run.top[r], warp_max(score));
      const float weight = seen ? expf(score - top) : 0;
      const float shrink = top == run.top[r] ? 1 : expf(run.top[r] - top);
      run.sum[r] = run.sum[r] * shrink + warp_sum(weight);
      run.top[r] = top;
      MOEGEN_UNROLL
      for (int j = 0; j < kDims; ++j) run.out[r][j] *= shrink;
      p[lane() * kRows + r] = kScaled && seen ? weight * scales[kPageTokens + lane()] : weight;
      last = max(last, min(rows[r].last - position, kPageTokens - 1));
    }
    __syncwarp();
    int t = 0;
    for (; t < last; t += 2) {
      float v0[kDims], v1[kDims];
      MOEGEN_UNROLL
      for (int j = 0; j < kDims; ++j) {
        v0[j] = v1[j] = 0;
        if (lane() + 32 * j < a.value_dim()) values(a, keys, t, lane() + 32 * j, v0[j], v1[j]);
      }
      MOEGEN_UNROLL
      for (int r = 0; r < kRows; ++r) {
        MOEGEN_UNROLL
        for (int j = 0; j < kDims; ++j) run.out[r][j] = fmaf(p[(t + 1) * kRows + r], v1[j], fmaf(p[t * kRows + r], v0[j], run.out[r][j]));
      }
    }
    if (t == last) {  // nobody sees the one behind it, whose values may be anything
      MOEGEN_UNROLL
      for (int j = 0; j < kDims; ++j) {
        const float v = lane() + 32 * j < a.value_dim() ? value(a, keys, t, lane() + 32 * j) : 0;
        MOEGEN_UNROLL
        for (int r = 0; r < kRows; ++r) run.out[r][j] = fmaf(p[t * kRows + r], v, run.out[r][j]);
      }
    }
    __syncwarp();
  }

  /// Puts the warps' parts together, in their order; parts: [kWarps][kRows][value_dim + 2].
  __device__ static void finish(const Args& a, const GpuTile& tile, const AttentionRow* rows, int kv_head, const float* parts) {
    const int width = a.value_dim();
    for (int r = warp(); r < kRows; r += kWarps) {
      if (rows[r].query < 0) continue;
      const auto part = [&](int w) { return parts + (w * kRows + r) * (width + 2); };
      const int head = kv_head * a.heads + rows[r].head;
      float top = a.sinks != nullptr ? a.sinks[head] : -INFINITY;
      for (int w = 0; w < kWarps; ++w) top = fmaxf(top, part(w)[width]);
      float sum = a.sinks != nullptr ? expf(a.sinks[head] - top) : 0;
      float shares[kWarps];
      for (int w = 0; w < kWarps; ++w) {
        shares[w] = part(w)[width + 1] > 0 ? expf(part(w)[width] - top) : 0;
        sum = fmaf(part(w)[width + 1], shares[w], sum);
      }
      float* out = static_cast<float*>(a.out) + (static_cast<int64_t>(tile.row + rows[r].query) * a.kv_heads * a.heads + head) * width;
      for (int d = lane(); d < width; d += 32) {
        float x = 0;
        for (int w = 0; w < kWarps; ++w) x = shares[w] > 0 ? fmaf(part(w)[d], shares[w], x) : x;
        out[d] = x / sum;
      }
    }
  }

  __device__ static void run(const Args& a) {
    const GpuTile tile = a.tiles[blockIdx.x];
    const int kv_head = static_cast<int>(blockIdx.y) % a.kv_heads;
    const int row_block = static_cast<int>(blockIdx.y) / a.kv_heads;
    if (row_block * kRows >= tile.count * a.heads) return;  // the whole block
    float* q = MOEGEN_SHARED;                               // [head_dim][kRows]
    float* p = q + kRows * a.head_dim + warp() * kRows * kPageTokens;
    float* parts = q + kRows * a.head_dim + kWarps * kRows * kPageTokens;
    AttentionRow* rows = reinterpret_cast<AttentionRow*>(parts + kWarps * kRows * (a.value_dim() + 2));
    int first = INT32_MAX, last = -1;
    for (int r = 0; r < kRows; ++r) {
      const AttentionRow row = attention_row(a, tile, row_block * kRows + r);
      if (threadIdx.x == 0) rows[r] = row;
      const int64_t at = (static_cast<int64_t>(tile.row + max(row.query, 0)) * a.kv_heads * a.heads + kv_head * a.heads + row.head) * a.head_dim;
      for (int d = static_cast<int>(threadIdx.x); d < a.head_dim; d += kThreads)
        q[d * kRows + r] = row.query >= 0 ? static_cast<const float*>(a.q)[at + d] : 0;
      if (row.query < 0) continue;
      first = min(first, row.first);
      last = max(last, row.last);
    }
    Running state;
    MOEGEN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      state.top[r] = -INFINITY;
      state.sum[r] = 0;
      MOEGEN_UNROLL
      for (int j = 0; j < kDims; ++j) state.out[r][j] = 0;
    }
    __syncthreads();
    const int begin = first / kPageTokens;
    for (int i = begin + (warp() - begin % kWarps + kWarps) % kWarps; i <= last / kPageTokens; i += kWarps) {
      const std::byte* kv = a.slots + static_cast<size_t>(tile.slot + i) * a.slot_bytes + static_cast<size_t>(kv_head) * a.head_bytes;
      page(a, kv, i * kPageTokens, rows, q, p, state);
    }
    MOEGEN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      float* part = parts + (warp() * kRows + r) * (a.value_dim() + 2);
      MOEGEN_UNROLL
      for (int j = 0; j < kDims; ++j) {
        if (lane() + 32 * j < a.value_dim()) part[lane() + 32 * j] = state.out[r][j];
      }
      if (lane() == 0) {
        part[a.value_dim()] = state.top[r];
        part[a.value_dim() + 1] = state.sum[r];
      }
    }
    __syncthreads();
    finish(a, tile, rows, kv_head, parts);
  }

  [[nodiscard]] static size_t shared_bytes(const Args& a) {
    return sizeof(float) * static_cast<size_t>(kRows * a.head_dim + kWarps * kRows * kPageTokens + kWarps * kRows * (a.value_dim() + 2)) +
           kRows * sizeof(AttentionRow);
  }
};

}  // namespace moegen::gpu
