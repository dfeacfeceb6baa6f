#include "model/linear.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/checked.h"

namespace moegen {
namespace {

// Some at a time, so that weights of any type are floats in between.
void layer_norm(const StepContext& c, const RmsNorm& op, const TensorView& bias, int64_t row) {
  constexpr int64_t kSome = 256;
  const auto* x = static_cast<const float*>(op.x) + row * op.x_stride;
  const auto width = static_cast<double>(op.width);
  double sum = 0;
  for (int64_t i = 0; i < op.width; ++i) sum += static_cast<double>(x[i]);
  const double mean = sum / width;
  double squares = 0;
  for (int64_t i = 0; i < op.width; ++i) squares += (static_cast<double>(x[i]) - mean) * (static_cast<double>(x[i]) - mean);
  const auto factor = static_cast<float>(1 / std::sqrt(squares / width + static_cast<double>(op.eps)));
  std::array<float, kSome> y, weights, biases;
  const auto at = [](const void* data, DType dtype, int64_t i) {
    return static_cast<const std::byte*>(data) + static_cast<size_t>(i) * bytes_of(dtype);
  };
  for (int64_t first = 0; first < op.width; first += kSome) {
    const int64_t count = std::min(kSome, op.width - first);
    c.kernels.convert(at(op.weight, op.weight_dtype, first), op.weight_dtype, weights.data(), DType::f32, count);
    c.kernels.convert(at(bias.data, bias.dtype, first), bias.dtype, biases.data(), DType::f32, count);
    for (int64_t i = 0; i < count; ++i) {
      const auto j = static_cast<size_t>(i);
      y[j] = (x[first + i] - static_cast<float>(mean)) * factor * weights[j] + biases[j];
    }
    c.kernels.convert(y.data(), DType::f32, act_at(c, op.y, row * op.y_stride + first), op.y_dtype, count);
  }
}

}  // namespace

void linear(const StepContext& c, Gemm op, const TensorView& w, const TensorView& bias, int64_t m) {
  set_weights(op, w);
  set_bias(op, bias);
  // Many tasks, however small the whole is; not so many of few rows, since nobody fetches the first weights of a task ahead.
  const int64_t tasks = (m <= kGemmStreamedRows ? 3 : 8) * c.pool.size();
  const int64_t row_tiles = ceil_div(m, kRowBlock);
  const int64_t width = col_block(w.rows, m, 1, round_up(std::max<int64_t>(1, w.rows * row_tiles / tasks), kGemmColUnit));
  const int64_t col_tiles = ceil_div(w.rows, width);
  c.pool.parallel_for(row_tiles * col_tiles, [&](int64_t tile, int worker) {
    const int64_t row = tile % row_tiles * kRowBlock;
    const int64_t col = tile / row_tiles * width;
    Gemm part = op;
    part.scratch = scratch_of(c, worker);
    c.kernels.gemm(part, {row, std::min(m, row + kRowBlock)}, {col, std::min(w.rows, col + width)});
  });
}

void norm(const StepContext& c, RmsNorm op, const TensorView& weight, int64_t m, const TensorView& bias) {
  for_blocks(c, m, 16, [&](Range rows, int) { norm_rows(c, op, weight, rows, bias); });
}

void add_normed(const StepContext& c, const TensorView& weight, Range rows) {
  const int64_t hidden = c.spec.hidden;
  for_blocks(c, rows.size(), 16, [&](Range block, int) {
    for (int64_t i = rows.begin + block.begin; i < rows.begin + block.end; ++i) {
      float* x = c.buffers.branch + i * hidden;
      norm_rows(c, {.x = x, .x_stride = hidden, .y = x, .y_stride = hidden}, weight, {0, 1});
      c.kernels.axpy(c.buffers.hidden + i * hidden, 1, x, DType::f32, hidden);
    }
  });
}

void norm_rows(const StepContext& c, RmsNorm op, const TensorView& weight, Range rows, const TensorView& bias) {
  op.weight = weight.data;
  op.weight_dtype = weight.dtype;
  op.width = weight.cols;
  if (op.eps == 0) op.eps = c.spec.norm_eps;
  op.offset = c.spec.norm_offset;
  if (!bias) return c.kernels.rms_norm(op, rows);
  for (int64_t i = rows.begin; i < rows.end; ++i) layer_norm(c, op, bias, i);
}

}  // namespace moegen
