#pragma once

#include "kernels/cuda/cuda.cuh"

namespace moegen::gpu {

/// A block a row.
struct NormKernel {
  using Args = GpuNorm;
  static constexpr int kThreads = 128;
  __device__ static void run(const Args& a) {
    const int64_t row = blockIdx.x;
    const float* x = a.x + (a.picked != nullptr ? a.picked[row] : row) * a.x_stride;
    float squares = 0;
    for (int64_t i = threadIdx.x; i < a.width; i += kThreads) squares = fmaf(x[i], x[i], squares);
    const float factor = 1 / sqrtf(block_sum<kThreads>(squares, MOEGEN_SHARED) / static_cast<float>(a.width) + a.eps);
    for (int64_t i = threadIdx.x; i < a.width; i += kThreads) {
      const float weight = a.weight == nullptr ? 1.0F : load(a.weight, a.weight_dtype, i) + a.offset;
      store(a.y, a.y_dtype, row * a.y_stride + i, x[i] * factor * weight);
    }
  }
};

/// A block a row.
struct BestKernel {
  using Args = GpuBest;
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / 32;
  __device__ static void run(const Args& a) {
    const float* logits = a.logits + static_cast<int64_t>(blockIdx.x) * a.width;
    Best best{0, -1};
    for (int64_t i = threadIdx.x; i < a.width; i += kThreads) {
      if (logits[i] == logits[i]) best = better(best, {logits[i], static_cast<int>(i)});
    }
    best = warp_best(best);
    Best* of_warps = reinterpret_cast<Best*>(MOEGEN_SHARED);
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = best;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int w = 1; w < kWarps; ++w) best = better(best, of_warps[w]);
    a.best[blockIdx.x] = fabsf(best.value) <= 3.4028235e38F ? best.index : -1;
  }
};

/// Blocks of kThreads elements of a row: grid (ceil(cols / kThreads), rows). What they share.
template <typename Op>
struct ElementKernel {
  using Args = typename Op::Args;
  static constexpr int kThreads = 256;
  static constexpr bool kNoBarriers = true;
  __device__ static void run(const Args& a) {
    const int64_t col = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    // Rows beyond what a grid may have come round again.
    for (int64_t row = blockIdx.y; row < Op::rows(a); row += gridDim.y) {
      if (col < Op::cols(a)) Op::run(a, row, col);
    }
  }
};

struct Convert {
  using Args = GpuConvert;
  __device__ static int64_t rows(const Args& a) { return a.rows; }
  __device__ static int64_t cols(const Args& a) { return a.cols; }
  __device__ static void run(const Args& a, int64_t row, int64_t col) {
    store(a.y, a.y_dtype, row * a.y_stride + col, load(a.x, a.x_dtype, row * a.x_stride + col) * a.scale);
  }
};

struct AddBias {
  using Args = GpuBias;
  __device__ static int64_t rows(const Args& a) { return a.rows; }
  __device__ static int64_t cols(const Args& a) { return a.cols; }
  __device__ static void run(const Args& a, int64_t row, int64_t col) {
    float& y = a.y[row * a.y_stride + col];
    y = fmaf(a.scale, load(a.bias, a.bias_dtype, col), y);
  }
};

struct Move {
  using Args = GpuMove;
  __device__ static int64_t rows(const Args& a) { return a.rows; }
  __device__ static int64_t cols(const Args& a) { return a.width; }
  __device__ static void run(const Args& a, int64_t row, int64_t col) {
    const int64_t picked = a.picked[row];
    const int64_t from = (a.scatter ? row : picked) * a.x_stride + col;
    const int64_t to = (a.scatter ? picked : row) * a.y_stride + col;
    if (a.dtype == DType::f32) {
      static_cast<float*>(a.y)[to] = static_cast<const float*>(a.x)[from];
    } else {
      static_cast<bf16*>(a.y)[to] = static_cast<const bf16*>(a.x)[from];
    }
  }
};

struct Activate {
  using Args = GpuActivate;
  __device__ static int64_t rows(const Args& a) { return a.rows; }
  __device__ static int64_t cols(const Args& a) { return a.width; }
  __device__ static float value(const Args& a, float g, float u) {
    switch (a.kind) {
      case GpuActivate::Kind::silu:
        return g / (1 + expf(-g)) * u;
      case GpuActivate::Kind::clamped_silu: {
        g = fminf(g, a.clamp);
        u = fminf(fmaxf(u, -a.clamp), a.clamp);
        return g / (1 + expf(-1.702F * g)) * (u + 1);
      }
      case GpuActivate::Kind::gelu:
        return g / (1 + expf(-1.5957691216F * fmaf(0.044715F * g * g, g, g))) * u;
      default:
        return fmaxf(g, 0.0F);
    }
  }
  __device__ static void run(const Args& a, int64_t row, int64_t col) {
    const int64_t i = row * a.width + col;
    store(a.out, a.out_dtype, i, value(a, a.gate[i], a.up != nullptr ? a.up[i] : 0));
  }
};

struct Combine {
  using Args = GpuCombine;
  __device__ static int64_t rows(const Args& a) { return a.tokens; }
  __device__ static int64_t cols(const Args& a) { return a.width; }
  __device__ static void run(const Args& a, int64_t row, int64_t col) {
    float sum = a.hidden[row * a.width + col];
    for (int64_t i = row * a.top_k; i < (row + 1) * a.top_k; ++i)
      sum = fmaf(a.scale * a.weight[i], load(a.out, a.act, static_cast<int64_t>(a.row_of[i]) * a.width + col), sum);
    a.hidden[row * a.width + col] = sum;
  }
};

struct AddGated {
  using Args = GpuAddGated;
  __device__ static int64_t rows(const Args& a) { return a.rows; }
  __device__ static int64_t cols(const Args& a) { return a.width; }
  __device__ static void run(const Args& a, int64_t row, int64_t col) {
    const float share = a.logit != nullptr ? a.scale / (1 + expf(-a.logit[row])) : a.scale;
    float& y = a.hidden[row * a.width + col];
    y = fmaf(share, load(a.x, a.act, row * a.width + col), y);
  }
};

/// A thread has kEach neighbours of a row.
struct Expand {
  using Args = GpuExpand;
  static constexpr int kEach = 8;
  __device__ static int64_t rows(const Args& a) { return a.rows; }
  __device__ static int64_t cols(const Args& a) { return (a.cols + kEach - 1) / kEach; }
  __device__ static bool is_half(const Args& a) { return a.w_dtype == DType::f4 || a.w_dtype == DType::i4; }
  __device__ static bool is_plain(const Args& a) { return a.w_dtype == DType::f32 || a.w_dtype == DType::bf16 || a.w_dtype == DType::f16; }

  /// What a code is multiplied by, and what is 0.
  struct Group {
    float scale;
    int zero;
  };
  __device__ static Group group_of(const Args& a, int64_t row, int64_t col) {
    const int64_t at = row * a.cols + col;
    switch (a.w_dtype) {
      case DType::f8_e4m3: {
        const auto cols = static_cast<uint32_t>(a.cols), group = static_cast<uint32_t>(a.group);
        const uint32_t block = static_cast<uint32_t>(row) / static_cast<uint32_t>(a.block_rows);
        return {static_cast<const float*>(a.scales)[static_cast<int64_t>(block) * ((cols + group - 1) / group) + static_cast<uint32_t>(col) / group],
                0};
      }
      case DType::f4:
        return {widen(static_cast<const f8_e8m0*>(a.scales)[at / kF4Block]), 0};
      default: {
        const int64_t group = at / a.group;
        return {gpu::load(a.scales, a.scale_dtype, group), a.zeros != nullptr ? a.zeros[group] : is_half(a) ? 8 : 128};
      }
    }
  }
  __device__ static float value(const Args& a, const Group& group, uint32_t code) {
    if (a.w_dtype == DType::f8_e4m3) return widen(f8_e4m3{static_cast<uint8_t>(code)}) * group.scale;
    if (a.w_dtype == DType::f4) return widen_f4(code) * group.scale;
    return static_cast<float>(static_cast<int>(code) - group.zero) * group.scale;
  }
  __device__ static float value(const Args& a, int64_t row, int64_t col) {
    const int64_t at = row * a.cols + col;
    if (is_plain(a)) return gpu::load(a.w, a.w_dtype, at);
    const auto* codes = static_cast<const uint8_t*>(a.w);
    return value(a, group_of(a, row, col), is_half(a) ? codes[at / 2] >> (4 * (at % 2)) & 15U : codes[at]);
  }
  /// kEach that share a group, as they are stored: it is looked up once, and one load brings all codes.
  struct Codes {
    uint64_t bits[2];  // the second of f16 alone
    Group group;
  };
  __device__ static Codes load(const Args& a, int64_t row, int64_t col) {
    const int64_t at = row * a.cols + col;
    Codes out{};
    if (a.w_dtype == DType::f16) {
      memcpy(out.bits, __builtin_assume_aligned(static_cast<const f16*>(a.w) + at, 2 * kEach), 2 * kEach);
      return out;
    }
    const uint8_t* codes = static_cast<const uint8_t*>(a.w);
    if (is_half(a)) {
      memcpy(out.bits, __builtin_assume_aligned(codes + at / 2, kEach / 2), kEach / 2);
    } else {
      memcpy(out.bits, __builtin_assume_aligned(codes + at, kEach), kEach);
    }
    out.group = group_of(a, row, col);
    return out;
  }
  __device__ static void widen_codes(const Args& a, const Codes& codes, float* out) {
    if (a.w_dtype == DType::f16) {
      MOEGEN_UNROLL
      for (int i = 0; i < kEach; ++i) out[i] = widen(f16{static_cast<uint16_t>(codes.bits[i / 4] >> (16 * (i % 4)))});
      return;
    }
    const int bits = is_half(a) ? 4 : 8;
    MOEGEN_UNROLL
    for (int i = 0; i < kEach; ++i) out[i] = value(a, codes.group, static_cast<uint32_t>(codes.bits[0] >> (bits * i)) & ((1U << bits) - 1));
  }
  template <typename Y>
  __device__ static void store_all(const Args& a, int64_t at, const float* values) {
    Y out[kEach];
    MOEGEN_UNROLL
    for (int i = 0; i < kEach; ++i) out[i] = narrow<Y>(values[i]);
    memcpy(__builtin_assume_aligned(static_cast<void*>(static_cast<Y*>(a.y) + at), 16), out, sizeof(out));
  }
  __device__ static void run(const Args& a, int64_t row, int64_t part) {
    const int64_t col = part * kEach, from = a.first + row * a.step, at = row * a.cols + col;
    if (!is_plain(a) && a.cols % kEach == 0 && a.group % kEach == 0) {
      float out[kEach];
      widen_codes(a, load(a, from, col), out);
      if (a.y_dtype == DType::f32) return store_all<float>(a, at, out);
      return store_all<bf16>(a, at, out);
    }
    for (int64_t i = 0; i < kEach && col + i < a.cols; ++i) store(a.y, a.y_dtype, at + i, value(a, from, col + i));
  }
};

}  // namespace moegen::gpu
