#pragma once

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/tiles.cuh"

namespace moegen::gpu {

/// AttentionKernel in bfloat16, on tensor cores: a block for kTiles x 16 rows (queries x heads) of a GpuTile and one KV head, grid (tiles, kv heads x
/// row blocks). It goes over the keys in groups of kWarps pages, which begin at multiples of so many positions: a warp multiplies all rows with the
/// keys of one page, then all pages' weights with its share of the values' elements. So whatever the block, a row's sums run along the same keys in
/// the same order. Pages have keys in pairs of elements and values in pairs of tokens (kv_page.h), which is how the second operand of mma.m16n8k16
/// has them: one load of a word, and no detour through shared memory. Weights are rounded to bfloat16, as in FlashAttention-2 (Dao 2023, 3.1). S: of
/// K and V, bf16 or int8; kValueTiles: 8 elements of a value each, that a warp has.
template <typename S, int kTiles, int kValueTiles>
struct TensorAttentionKernel {
  using Args = GpuAttention;
  static constexpr int kWarps = kGpuAttentionWarps;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kRows = 16 * kTiles;
  static constexpr int kGroupTokens = kWarps * kPageTokens;
  static constexpr int kTokenTiles = kPageTokens / 8;         // of a page
  static constexpr int kWeightStride = kGroupTokens / 2 + 4;  // words
  static constexpr bool kScaled = sizeof(S) == 1;
  static constexpr bool kAhead = kValueTiles <= 8;  // keys are loaded before those before them are multiplied: there are registers for it

  static constexpr int query_stride(int head_dim) { return (head_dim + 15) / 16 * 8 + 4; }  // words

  struct Shared {
    uint32_t* q;         // [kRows][query_stride] pairs
    uint32_t* weights;   // [kRows][kWeightStride] pairs
    float* tops;         // [kWarps][kRows] of a group's pages
    float* sums;         // [kWarps][kRows] at the end
    AttentionRow* rows;  // [kRows]
    int first, last;     // that any row sees
    int tiles;           // that have rows
  };
  [[nodiscard]] static size_t shared_bytes(const Args& a) {
    return sizeof(uint32_t) * static_cast<size_t>(kRows * (query_stride(a.head_dim) + kWeightStride)) + 2 * sizeof(float) * kWarps * kRows +
           kRows * sizeof(AttentionRow);
  }

  /// What a thread has of the rows.
  struct Running {
    float top[kTiles][2], sum[kTiles][2];  // sum: of its own columns
    float out[kTiles][kValueTiles][4];
  };

  /// Two elements that lie side by side, as bf16, for which the 8 bits of int8 are few enough.
  __device__ static uint32_t pair(const S* from) {
    if constexpr (kScaled) {
      const uint32_t both = load_as<uint16_t>(from);
      return __float_as_uint(static_cast<float>(static_cast<int8_t>(both))) >> 16 |
             (__float_as_uint(static_cast<float>(static_cast<int8_t>(both >> 8))) & 0xffff0000U);
    } else {
      return load_as<uint32_t>(from);
    }
  }

  /// The second operand of 16 elements of the keys, from d on.
  __device__ static void load_keys(const Args& a, const S* keys, int d, uint32_t (*out)[2]) {
    MOEGEN_UNROLL
    for (int n = 0; n < kTokenTiles; ++n) {
      MOEGEN_UNROLL
      for (int i = 0; i < 2; ++i) {
        const int at = d + 8 * i + 2 * place_in_quad();
        out[n][i] = at < a.head_dim ? pair(keys + key_index(kDTypeOf<S>, 8 * n + quad(), at)) : 0;
      }
    }
  }

  /// scores [rows, kPageTokens] = q . keys
  __device__ static void multiply_keys(const Args& a, const Shared& shared, const S* keys, float (*scores)[kTokenTiles][4]) {
    uint32_t next[kTokenTiles][2];
    if constexpr (kAhead) load_keys(a, keys, 0, next);
    for (int d = 0; d < a.head_dim; d += 16) {
      uint32_t k[kTokenTiles][2];
      if constexpr (kAhead) {
        memcpy(k, next, sizeof(k));
        load_keys(a, keys, d + 16, next);
      } else {
        load_keys(a, keys, d, k);
      }
      MOEGEN_UNROLL
      for (int m = 0; m < kTiles; ++m) {
        if (m >= shared.tiles) break;
        uint32_t q[4];
        load_tile(shared.q, query_stride(a.head_dim), m, d / 2, q);
        MOEGEN_UNROLL
        for (int n = 0; n < kTokenTiles; ++n) multiply_tiles(scores[m][n], q, k[n]);
      }
    }
  }

  /// The part of the second operand that a thread has of tokens t, t + 1 and t + 8, t + 9, where t is the first of 16 and its place's; `nobody`: the
  /// first token that no row sees, from which on values may be anything. Of latent attention, whose values are the first elements of keys and lie in
  /// pairs of these, tiles come in pairs: the even elements of 16, then the odd ones.
  __device__ static void load_values(const Args& a, const S* keys, int t, int nobody, int j, uint32_t (*out)[2]) {
    MOEGEN_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int token = t + 8 * i + 2 * place_in_quad();
      const uint32_t seen = token + 1 < nobody ? 0xffffffffU : token < nobody ? 0xffffU : 0;
      // What lies beyond the elements is multiplied too, and not stored.
      if (a.latent_dim > 0) {
        const S* from = keys + key_index(kDTypeOf<S>, token, min(element(a, j, quad()), a.latent_dim - 2));
        const auto both = load_as<uint64_t>(from);  // tokens side by side; these keys are never int8
        const auto of_first = static_cast<uint32_t>(both), of_second = static_cast<uint32_t>(both >> 32);
        out[0][i] = ((of_first & 0xffffU) | of_second << 16) & seen;
        out[1][i] = (of_first >> 16 | (of_second & 0xffff0000U)) & seen;
      } else {
        MOEGEN_UNROLL
        for (int half = 0; half < 2; ++half) {
          const int d = min(element(a, j + half, quad()), a.head_dim - 1);
          out[half][i] = pair(keys + kPageTokens * a.head_dim + value_index(kDTypeOf<S>, a.head_dim, token, d)) & seen;
        }
      }
    }
  }
  /// Which element of a value column c of the warp's tile j is.
  __device__ static int element(const Args& a, int j, int c) {
    const int tile = warp() * kValueTiles + j;
    return a.latent_dim > 0 ? tile / 2 * 16 + 2 * c + tile % 2 : 8 * tile + c;
  }

  /// out [rows, the warp's elements] += weights . values, of the group's page `page`.
  __device__ static void multiply_values(const Args& a, const Shared& shared, const S* keys, int page, int nobody, Running& run) {
    for (int t = 0; t < kPageTokens && t < nobody; t += 16) {
      uint32_t weights[kTiles][4];
      MOEGEN_UNROLL
      for (int m = 0; m < kTiles; ++m) {
        if (m < shared.tiles) load_tile(shared.weights, kWeightStride, m, (page * kPageTokens + t) / 2, weights[m]);
      }
      MOEGEN_UNROLL
      for (int j = 0; j < kValueTiles; j += 2) {
        uint32_t v[2][2];
        load_values(a, keys, t, nobody, j, v);
        MOEGEN_UNROLL
        for (int m = 0; m < kTiles; ++m) {
          if (m >= shared.tiles) break;
          multiply_tiles(run.out[m][j], weights[m], v[0]);
          multiply_tiles(run.out[m][j + 1], weights[m], v[1]);
        }
      }
    }
  }

  /// The largest, or the sum, of what the four threads of a row have.
  __device__ static float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
    return fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
  }
  __device__ static float quad_sum(float x) {
    x += __shfl_xor_sync(kAllLanes, x, 1);
    return x + __shfl_xor_sync(kAllLanes, x, 2);
  }

  /// Scales scores and takes out what a row does not see; writes the page's largest of each row.
  __device__ static void mask(const Args& a, const Shared& shared, const float* scales, int position, float (*scores)[kTokenTiles][4]) {
    MOEGEN_UNROLL
    for (int m = 0; m < kTiles; ++m) {
      if (m >= shared.tiles) break;
      MOEGEN_UNROLL
      for (int half = 0; half < 2; ++half) {
        const AttentionRow row = shared.rows[tile_row(m, half)];
        float top = -INFINITY;
        MOEGEN_UNROLL
        for (int n = 0; n < kTokenTiles; ++n) {
          MOEGEN_UNROLL
          for (int i = 0; i < 2; ++i) {
            const int token = 8 * n + 2 * place_in_quad() + i;
            float& score = scores[m][n][2 * half + i];
            const float scale = kScaled ? scales[token] * a.scale : a.scale;
            score = row.sees(position + token) ? score * scale : -INFINITY;
            top = fmaxf(top, score);
          }
        }
        top = quad_max(top);
        if (place_in_quad() == 0) shared.tops[warp() * kRows + tile_row(m, half)] = top;
      }
    }
  }

  /// The softmax goes on over the group: what was summed up shrinks, the page's weights are written.
  __device__ static void weigh(const Shared& shared, const float* scales, int position, const float (*scores)[kTokenTiles][4], Running& run) {
    MOEGEN_UNROLL
    for (int m = 0; m < kTiles; ++m) {
      if (m >= shared.tiles) break;
      MOEGEN_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int r = tile_row(m, half);
        float top = run.top[m][half];
        MOEGEN_UNROLL
        for (int w = 0; w < kWarps; ++w) top = fmaxf(top, shared.tops[w * kRows + r]);
        const float shrink = top == run.top[m][half] ? 1 : expf(run.top[m][half] - top);
        const float base = top > -INFINITY ? top : 0;  // unseen scores are -INFINITY, and weigh nothing
        float sum = run.sum[m][half] * shrink;
        MOEGEN_UNROLL
        for (int n = 0; n < kTokenTiles; ++n) {
          float weight[2];
          MOEGEN_UNROLL
          for (int i = 0; i < 2; ++i) {
            weight[i] = expf(scores[m][n][2 * half + i] - base);
            sum += weight[i];
            if constexpr (kScaled) {
              const int token = 8 * n + 2 * place_in_quad() + i;
              weight[i] = shared.rows[r].sees(position + token) ? weight[i] * scales[kPageTokens + token] : 0;
            }
          }
          shared.weights[r * kWeightStride + warp() * (kPageTokens / 2) + 4 * n + place_in_quad()] = pack_bf16(weight[0], weight[1]);
        }
        run.top[m][half] = top;
        run.sum[m][half] = sum;
        MOEGEN_UNROLL
        for (int j = 0; j < kValueTiles; ++j) {
          run.out[m][j][2 * half] *= shrink;
          run.out[m][j][2 * half + 1] *= shrink;
        }
      }
    }
  }

  /// Rows and queries of the block to shared memory.
  __device__ static Shared prepare(const Args& a, const GpuTile& tile, int kv_head, int row_block) {
    const int stride = query_stride(a.head_dim);
    Shared shared;
    shared.q = reinterpret_cast<uint32_t*>(MOEGEN_SHARED);
    shared.weights = shared.q + kRows * stride;
    shared.tops = reinterpret_cast<float*>(shared.weights + kRows * kWeightStride);
    shared.sums = shared.tops + kWarps * kRows;
    shared.rows = reinterpret_cast<AttentionRow*>(shared.sums + kWarps * kRows);
    const int begin = row_block * kRows, end = min(begin + kRows, tile.count * a.heads);
    shared.tiles = (end - begin + 15) / 16;
    shared.first = static_cast<int>(first_seen(tile.position + begin / a.heads, a.window, a.chunk));
    shared.last = tile.position + (end - 1) / a.heads;
    for (int r = static_cast<int>(threadIdx.x); r < kRows; r += kThreads) shared.rows[r] = attention_row(a, tile, begin + r);
    const bf16* q = static_cast<const bf16*>(a.q) + (static_cast<int64_t>(tile.row) * a.kv_heads + kv_head) * a.heads * a.head_dim;
    for (int r = warp(); r < kRows; r += kWarps) {
      const int i = begin + r;
      const bf16* from = q + (static_cast<int64_t>(i / a.heads) * (a.kv_heads - 1) * a.heads + i) * a.head_dim;
      for (int w = static_cast<int>(threadIdx.x % 32); w < stride; w += 32)
        shared.q[r * stride + w] = i < end && 2 * w < a.head_dim ? load_as<uint32_t>(from + 2 * w) : 0;
    }
    __syncthreads();
    return shared;
  }

  /// Sums of all threads, in the order of places and warps, and the sink; then what was asked for.
  __device__ static void finish(const Args& a, const GpuTile& tile, int kv_head, const Shared& shared, Running& run) {
    MOEGEN_UNROLL
    for (int m = 0; m < kTiles; ++m) {
      MOEGEN_UNROLL
      for (int half = 0; half < 2; ++half) {
        const float sum = quad_sum(run.sum[m][half]);
        if (place_in_quad() == 0) shared.sums[warp() * kRows + tile_row(m, half)] = sum;
      }
    }
    __syncthreads();
    MOEGEN_UNROLL
    for (int m = 0; m < kTiles; ++m) {
      MOEGEN_UNROLL
      for (int half = 0; half < 2; ++half) {
        const AttentionRow row = shared.rows[tile_row(m, half)];
        if (row.query < 0) continue;
        const int head = kv_head * a.heads + row.head;
        float sum = 0, share = 1;
        for (int w = 0; w < kWarps; ++w) sum += shared.sums[w * kRows + tile_row(m, half)];
        if (a.sinks != nullptr) {
          const float top = fmaxf(a.sinks[head], run.top[m][half]);
          share = expf(run.top[m][half] - top);
          sum = fmaf(sum, share, expf(a.sinks[head] - top));
        }
        const float factor = share / sum;
        bf16* out = static_cast<bf16*>(a.out) + (static_cast<int64_t>(tile.row + row.query) * a.kv_heads * a.heads + head) * a.value_dim();
        MOEGEN_UNROLL
        for (int j = 0; j < kValueTiles; ++j) {
          MOEGEN_UNROLL
          for (int i = 0; i < 2; ++i) {
            const int d = element(a, j, 2 * place_in_quad() + i);
            if (d < a.value_dim()) out[d] = narrow<bf16>(run.out[m][j][2 * half + i] * factor);
          }
        }
      }
    }
  }

  __device__ static void run(const Args& a) {
    const GpuTile tile = a.tiles[gridDim.x - 1 - blockIdx.x];  // prompts: those that see the most first
    const int kv_head = static_cast<int>(blockIdx.y) % a.kv_heads;
    const int row_block = static_cast<int>(blockIdx.y) / a.kv_heads;
    if (row_block * kRows >= tile.count * a.heads) return;  // the whole block
    const Shared shared = prepare(a, tile, kv_head, row_block);
    Running state = {};
    MOEGEN_UNROLL
    for (int m = 0; m < kTiles; ++m) state.top[m][0] = state.top[m][1] = -INFINITY;
    const int first_page = shared.first / kPageTokens, last_page = shared.last / kPageTokens;
    const auto kv = [&](int page) {
      return a.slots + static_cast<int64_t>(tile.slot + page) * static_cast<int64_t>(a.slot_bytes) + static_cast<size_t>(kv_head) * a.head_bytes;
    };
    for (int group = first_page / kWarps * kWarps; group <= last_page; group += kWarps) {
      float scores[kTiles][kTokenTiles][4] = {};
      const int own = group + warp();  // beyond the ends nothing is seen, and nothing is read
      const int read = min(max(own, first_page), last_page);
      const float* scales = reinterpret_cast<const float*>(kv(read) + kv_scale_offset(a.head_dim));
      if (own == read) multiply_keys(a, shared, reinterpret_cast<const S*>(kv(own)), scores);
      mask(a, shared, scales, own * kPageTokens, scores);
      __syncthreads();
      weigh(shared, scales, own * kPageTokens, scores, state);
      __syncthreads();
      for (int page = max(group, first_page); page < group + kWarps && page <= last_page; ++page)
        multiply_values(a, shared, reinterpret_cast<const S*>(kv(page)), page - group, shared.last + 1 - page * kPageTokens, state);
    }
    finish(a, tile, kv_head, shared, state);
  }
};

}  // namespace moegen::gpu
