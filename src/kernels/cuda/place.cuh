#pragma once

#include "kernels/cuda/cuda.cuh"

namespace moegen::gpu {

/// Turns pairs of head[0, dim), in shared memory, by a warp.
__device__ inline void turn_head(float* head, const float* cos, const float* sin, int dim, bool interleaved) {
  for (int i = static_cast<int>(threadIdx.x % 32); i < dim / 2; i += 32) {
    float& a = head[interleaved ? 2 * i : i];
    float& b = head[interleaved ? 2 * i + 1 : i + dim / 2];
    const float x = a, y = b;
    a = x * cos[i] - y * sin[i];
    b = y * cos[i] + x * sin[i];
  }
  __syncwarp();
}

/// A block a row, a warp a head; shared memory [kWarps][head_dim], then [2][kWarps].
template <typename T, typename S>
struct PlaceKernel {
  using Args = GpuPlace;
  static constexpr int kWarps = 4;
  static constexpr int kThreads = 32 * kWarps;

  __device__ static int lane() { return static_cast<int>(threadIdx.x % 32); }

  __device__ static float rms_factor(const Args& a, float squares, int64_t width) { return 1 / sqrtf(squares / static_cast<float>(width) + a.eps); }
  /// Of a projection as a whole, by all threads.
  __device__ static float whole_factor(const Args& a, const float* x, int64_t width, float* room) {
    float squares = 0;
    for (int64_t i = threadIdx.x; i < width; i += kThreads) squares = fmaf(x[i], x[i], squares);
    return rms_factor(a, block_sum<kThreads>(squares, room), width);
  }
  __device__ static float head_factor(const Args& a, const float* head) {
    float squares = 0;
    for (int d = lane(); d < a.head_dim; d += 32) squares = fmaf(head[d], head[d], squares);
    return rms_factor(a, warp_sum(squares), a.head_dim);
  }

  /// `weights`: of the head from element `at` on, or null.
  __device__ static void multiply(const Args& a, float factor, const void* weights, int64_t at, float* head) {
    for (int d = lane(); d < a.head_dim; d += 32) {
      const float weight = weights != nullptr ? load(weights, a.norm_dtype, at + d) + a.offset : 1;
      head[d] = head[d] * factor * weight;
    }
    __syncwarp();
  }

  /// The weights of a head of q or k, which begin at element `at`, and the factor of the whole projection.
  struct Norm {
    const void* weights;
    int64_t at;
    float factor;
  };
  __device__ static void apply(const Args& a, const Norm& norm, float* head) {
    multiply(a, a.norm == GpuPlace::Norm::whole ? norm.factor : head_factor(a, head), norm.weights, norm.at, head);
  }
  __device__ static void norm_and_turn(const Args& a, int64_t row, const Norm& norm, float* head) {
    const bool norms = a.norm != GpuPlace::Norm::none;
    if (norms && !a.rope_first) apply(a, norm, head);
    clip(a, head);
    const int64_t at = row * (a.rope_dim / 2);
    turn_head(head, a.cos + at, a.sin + at, a.rope_dim, a.interleaved);
    if (norms && a.rope_first) apply(a, norm, head);
  }
  __device__ static float tuning_of(const Args& a, int position) {
    return a.tuning != 0 ? 1 + a.tuning * logf(1 + floorf(static_cast<float>(position + 1) / a.tuning_step)) : 1;
  }
  __device__ static void clip(const Args& a, float* head) {
    for (int d = lane(); a.clip > 0 && d < a.head_dim; d += 32) head[d] = fminf(fmaxf(head[d], -a.clip), a.clip);
    __syncwarp();
  }

  /// What int8 multiplies: the largest magnitude over 127, of values as they are in T. Not finite where one of them is not.
  __device__ static float step_of(const Args& a, const float* head) {
    float largest = 0;
    bool odd = false;
    for (int d = lane(); d < a.head_dim; d += 32) {
      const float x = fabsf(widen(narrow<T>(head[d])));
      odd = odd || isnan(x);
      largest = fmaxf(largest, x);
    }
    largest = warp_max(largest);
    return warp_max(odd ? 1.0F : 0.0F) > 0 ? NAN : largest;
  }
  __device__ static int8_t rounded(float x, float largest) {
    return largest > 1e-30F && isfinite(largest) ? static_cast<int8_t>(rintf(widen(narrow<T>(x)) * (127 / largest))) : int8_t{0};
  }

  template <typename Index>
  __device__ static void put(const Args& a, const float* head, S* to, const Index& index, float* scale) {
    if constexpr (sizeof(S) == 1) {
      const float largest = step_of(a, head);
      for (int d = lane(); d < a.head_dim; d += 32) to[index(d)] = rounded(head[d], largest);
      if (lane() == 0) *scale = largest > 1e-30F || !isfinite(largest) ? largest / 127 : 0;
    } else {
      for (int d = lane(); d < a.head_dim; d += 32) to[index(d)] = narrow<S>(head[d]);
    }
  }

  /// A key or a value, to what its KV head has in the slot.
  __device__ static void keep(const Args& a, const GpuRow& r, const float* head, bool is_key, std::byte* kv) {
    const int t = r.position % kPageTokens;
    S* keys = reinterpret_cast<S*>(kv);
    S* values = keys + kPageTokens * a.head_dim;
    float* scales = reinterpret_cast<float*>(kv + kv_scale_offset(a.head_dim));
    if (is_key) {
      put(
          a, head, keys, [&](int d) { return key_index(kDTypeOf<S>, t, d); }, scales + t);
      return;
    }
    put(
        a, head, values, [&](int d) { return value_index(kDTypeOf<S>, a.head_dim, t, d); }, scales + kPageTokens + t);
    // The neighbour of a last value: kernels of the CPU multiply it by zero, and must not meet a NaN there.
    if (kv_group(kDTypeOf<S>) == 2 && t % 2 == 0 && r.position + 1 == r.end) {
      for (int d = lane(); d < a.head_dim; d += 32) values[value_index(kDTypeOf<S>, a.head_dim, t, d) + 1] = S{};
    }
  }

  __device__ static void run(const Args& a) {
    const int64_t row = blockIdx.x;
    const int warp = static_cast<int>(threadIdx.x / 32);
    float* head = MOEGEN_SHARED + warp * a.head_dim;
    const GpuRow r = a.row[row];
    if (r.position < 0) return;  // a whole block
    std::byte* slot = a.slots + static_cast<size_t>(r.slot + r.position / kPageTokens) * a.slot_bytes;
    const float* q = a.qkv + row * a.stride;
    const float* k = q + a.q_heads * a.q_step;
    float q_factor = 0, k_factor = 0;
    const bool whole = a.norm == GpuPlace::Norm::whole;
    if (whole) {
      float* room = MOEGEN_SHARED + kWarps * a.head_dim;
      q_factor = whole_factor(a, q, static_cast<int64_t>(a.q_heads) * a.head_dim, room);
      k_factor = whole_factor(a, k, static_cast<int64_t>(a.kv_heads) * a.head_dim, room + kWarps);
    }
    for (int h = warp; h < a.q_heads + 2 * a.kv_heads; h += kWarps) {
      const int own = h < a.q_heads ? h : (h - a.q_heads) % a.kv_heads;  // of its kind
      const bool is_q = h < a.q_heads, is_value = h >= a.q_heads + a.kv_heads;
      const int64_t at = static_cast<int64_t>(own) * a.head_dim;
      const float* from = is_q ? q + own * a.q_step : k + (is_value && !a.k_is_v ? a.kv_heads * a.head_dim : 0) + at;
      for (int d = lane(); d < a.head_dim; d += 32) head[d] = from[d];
      __syncwarp();
      if (is_value) {
        clip(a, head);
        if (a.v_norm) multiply(a, head_factor(a, head), nullptr, 0, head);
      } else {
        norm_and_turn(a, row, {is_q ? a.q_norm : a.k_norm, whole ? at : 0, is_q ? q_factor : k_factor}, head);
      }
      if (is_q) {
        T* to = static_cast<T*>(a.q) + row * a.q_heads * a.head_dim + at;
        const float factor = tuning_of(a, r.position);
        for (int d = lane(); d < a.head_dim; d += 32) to[d] = narrow<T>(head[d] * factor);
      } else {
        keep(a, r, head, !is_value, slot + static_cast<size_t>(own) * a.head_bytes);
      }
      __syncwarp();
    }
  }
};

/// A block a row: warp 0 has the latent and its key, all warps the heads of q; shared memory [kWarps][rope_dim].
template <typename T>
struct PlaceLatentKernel {
  using Args = GpuPlaceLatent;
  static constexpr int kWarps = 4;
  static constexpr int kThreads = 32 * kWarps;
  __device__ static int lane() { return static_cast<int>(threadIdx.x % 32); }

  __device__ static void place_key(const Args& a, int64_t row, const float* cos, const float* sin, float* room) {
    const float* from = a.latent + row * a.latent_stride;
    const GpuRow r = a.row[row];
    T* keys = reinterpret_cast<T*>(a.slots + static_cast<size_t>(r.slot + r.position / kPageTokens) * a.slot_bytes);
    float squares = 0;
    for (int d = lane(); d < a.kv_rank; d += 32) squares = fmaf(from[d], from[d], squares);
    const float factor = 1 / sqrtf(warp_sum(squares) / static_cast<float>(a.kv_rank) + a.eps);
    for (int d = lane(); d < a.rope_dim; d += 32) room[d] = from[a.kv_rank + d];
    __syncwarp();
    turn_head(room, cos, sin, a.rope_dim, a.interleaved);
    const int t = r.position % kPageTokens;
    for (int d = lane(); d < a.kv_rank; d += 32)
      keys[key_index(kDTypeOf<T>, t, d)] = narrow<T>(from[d] * factor * (load(a.norm, a.norm_dtype, d) + a.offset));
    for (int d = lane(); d < a.rope_dim; d += 32) keys[key_index(kDTypeOf<T>, t, a.kv_rank + d)] = narrow<T>(room[d]);
  }

  __device__ static void run(const Args& a) {
    const int64_t row = blockIdx.x;
    if (a.row[row].position < 0) return;
    const int warp = static_cast<int>(threadIdx.x / 32);
    float* room = MOEGEN_SHARED + warp * a.rope_dim;
    const float* cos = a.cos + row * (a.rope_dim / 2);
    const float* sin = a.sin + row * (a.rope_dim / 2);
    if (warp == 0) place_key(a, row, cos, sin, room);
    __syncwarp();
    for (int h = warp; h < a.num_heads; h += kWarps) {
      const T* from = static_cast<const T*>(a.heads) + (row * a.num_heads + h) * a.head_stride + a.plain_dim;
      T* to = static_cast<T*>(a.q) + (row * a.num_heads + h) * (a.kv_rank + a.rope_dim) + a.kv_rank;
      for (int d = lane(); d < a.rope_dim; d += 32) room[d] = widen(from[d]);
      __syncwarp();
      turn_head(room, cos, sin, a.rope_dim, a.interleaved);
      for (int d = lane(); d < a.rope_dim; d += 32) to[d] = narrow<T>(room[d]);
      __syncwarp();
    }
  }
};

}  // namespace moegen::gpu
