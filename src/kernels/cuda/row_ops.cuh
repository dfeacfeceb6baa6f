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

struct Expand {
  using Args = GpuExpand;
  __device__ static int64_t rows(const Args& a) { return a.rows; }
  __device__ static int64_t cols(const Args& a) { return a.cols; }
  __device__ static float value(const Args& a, int64_t row, int64_t col) {
    const int64_t at = row * a.cols + col;
    const uint8_t* codes = static_cast<const uint8_t*>(a.w);
    switch (a.w_dtype) {
      case DType::f8_e4m3: {
        const int64_t blocks = (a.cols + a.group - 1) / a.group;
        return widen(f8_e4m3{codes[at]}) * static_cast<const float*>(a.scales)[row / a.block_rows * blocks + col / a.group];
      }
      case DType::f4:
        return widen_f4(codes[at / 2] >> (4 * (at % 2)) & 15U) * widen(static_cast<const f8_e8m0*>(a.scales)[at / kF4Block]);
      case DType::i4:
      case DType::u8: {
        const bool half = a.w_dtype == DType::i4;
        const int code = half ? codes[at / 2] >> (4 * (at % 2)) & 15 : codes[at];
        const int64_t group = at / a.group;
        const int zero = a.zeros != nullptr ? a.zeros[group] : half ? 8 : 128;
        return static_cast<float>(code - zero) * load(a.scales, a.scale_dtype, group);
      }
      default:
        return load(a.w, a.w_dtype, at);
    }
  }
  __device__ static void run(const Args& a, int64_t row, int64_t col) {
    store(a.y, a.y_dtype, row * a.cols + col, value(a, a.first + row * a.step, col));
  }
};

}  // namespace moegen::gpu
