#pragma once

#include "kernels/cuda/cuda.cuh"

namespace moegen::gpu {

/// A block a row; shared memory [2][kThreads / 32].
struct NormKernel {
  using Args = GpuNorm;
  static constexpr int kThreads = 128;

  __device__ static float mean_of(const Args& a, int64_t from, float* room) {
    float sum = 0;
    for (int64_t i = threadIdx.x; i < a.width; i += kThreads) sum += load(a.x, a.x_dtype, from + i);
    return block_sum<kThreads>(sum, room) / static_cast<float>(a.width);
  }

  __device__ static void run(const Args& a) {
    const int64_t row = blockIdx.x;
    const int64_t from = (a.picked != nullptr ? a.picked[row] : row) * a.x_stride;
    const float mean = a.bias != nullptr ? mean_of(a, from, MOEGEN_SHARED) : 0;
    float squares = 0;
    for (int64_t i = threadIdx.x; i < a.width; i += kThreads) {
      const float x = load(a.x, a.x_dtype, from + i) - mean;
      squares = fmaf(x, x, squares);
    }
    const float factor = 1 / sqrtf(block_sum<kThreads>(squares, MOEGEN_SHARED + kThreads / 32) / static_cast<float>(a.width) + a.eps);
    for (int64_t i = threadIdx.x; i < a.width; i += kThreads) {
      const float bias = a.bias != nullptr ? load(a.bias, a.bias_dtype, i) : 0;
      const int64_t to = row * a.y_stride + i;
      float y = fmaf((load(a.x, a.x_dtype, from + i) - mean) * factor, load(a.weight, a.weight_dtype, i) + a.offset, bias);
      if (a.add) y += load(a.y, a.y_dtype, to);
      if (a.scale != nullptr) y *= load(a.scale, a.scale_dtype, 0);
      store(a.y, a.y_dtype, to, y);
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

struct AddRows {
  using Args = GpuAddRows;
  __device__ static int64_t rows(const Args& a) { return a.rows; }
  __device__ static int64_t cols(const Args& a) { return a.width; }
  __device__ static void run(const Args& a, int64_t row, int64_t col) {
    a.y[row * a.width + col] += load(a.x, a.dtype, a.picked[row] * a.width + col);
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
    store(a.y, a.dtype, to, a.scale != nullptr ? a.scale[row] * load(a.x, a.dtype, from) : load(a.x, a.dtype, from));
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
      sum = fmaf(a.weight != nullptr ? a.scale * a.weight[i] : a.scale, load(a.out, a.act, static_cast<int64_t>(a.row_of[i]) * a.width + col), sum);
    a.hidden[row * a.width + col] = sum;
  }
};

struct Cap {
  using Args = GpuCap;
  __device__ static int64_t rows(const Args& a) { return a.rows; }
  __device__ static int64_t cols(const Args& a) { return a.width; }
  __device__ static void run(const Args& a, int64_t row, int64_t col) {
    float& x = a.x[row * a.width + col];
    x = a.cap * tanhf(x / a.cap);
  }
};

struct Gate {
  using Args = GpuGate;
  __device__ static int64_t rows(const Args& a) { return a.rows; }
  __device__ static int64_t cols(const Args& a) { return static_cast<int64_t>(a.heads) * a.head_dim; }
  __device__ static void run(const Args& a, int64_t row, int64_t col) {
    const float gate = a.gate[row * a.gate_stride + col / a.head_dim * a.gate_step + col % a.head_dim];
    const int64_t at = row * cols(a) + col;
    store(a.x, a.act, at, load(a.x, a.act, at) / (1 + expf(-gate)));
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

}  // namespace moegen::gpu
