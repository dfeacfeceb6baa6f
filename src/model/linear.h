#pragma once

#include <algorithm>

#include "base/checked.h"
#include "model/steps.h"

namespace moegen {

/// Tiles of a GEMM that are one task.
constexpr int64_t kRowBlock = kGemmBlockRows;
/// Columns, of `cols`, for that many rows in all, of each of so many matrices that are multiplied together: as even as can be, at most `most`.
inline int64_t col_block(int64_t cols, int64_t rows, int64_t matrices = 1, int64_t most = kGemmStreamedCols) {
  most = std::min(most, rows <= kGemmStreamedRows ? kGemmStreamedCols : kGemmBlockCols / matrices);
  return round_up(ceil_div(cols, ceil_div(cols, most)), kGemmColUnit);
}

/// What a thread has to itself: room for a GEMM, and behind it for what is computed from its outputs.
inline float* scratch_of(const StepContext& c, int worker) { return c.buffers.scratch + worker * c.buffers.scratch_floats; }
constexpr int64_t kGemmScratchFloats = kGemmScratchBytes / sizeof(float);

/// The weights of a GEMM, from row `row` of the view on.
inline void set_weights(Gemm& op, const TensorView& w, int64_t row = 0) {
  op.w = w.data;
  op.w_dtype = w.dtype;
  op.w_scales = w.scales;
  op.w_scale_dtype = w.scale_dtype;
  op.w_zeros = w.zeros;
  op.w_group = w.group;
  op.w_block_rows = w.block_rows;
  op.w_first = w.first + row * w.step;
  op.w_step = w.step;
  op.k = w.cols;
}

/// Its bias, from element `first` of a vector on; `bias` may be null.
inline void set_bias(Gemm& op, const TensorView& bias, int64_t first = 0) {
  if (!bias) return;
  op.bias = static_cast<const std::byte*>(bias.data) + static_cast<size_t>(bias.first * bias.cols + first) * bytes_of(bias.dtype);
  op.bias_dtype = bias.dtype;
}

/// y = x w^T (+ bias) over m rows, shared out to the threads in tiles. `x`, `y` and their strides are set in `op`.
void linear(const StepContext& c, Gemm op, const TensorView& w, const TensorView& bias, int64_t m);

/// y = rms_norm(x) * weight over m rows, with the model's epsilon unless `op` has one; with a bias LayerNorm, of x in float.
void norm(const StepContext& c, RmsNorm op, const TensorView& weight, int64_t m, const TensorView& bias = {});
/// The same of some rows, on this thread.
void norm_rows(const StepContext& c, RmsNorm op, const TensorView& weight, Range rows, const TensorView& bias = {});

/// hidden += rms_norm(branch) * weight, for these rows; branch is normed in place.
void add_normed(const StepContext& c, const TensorView& weight, Range rows);

/// Calls task(range, worker) over [0, count) in blocks of `block`.
template <typename Task>
void for_blocks(const StepContext& c, int64_t count, int64_t block, const Task& task) {
  c.pool.parallel_for(ceil_div(count, block), [&](int64_t i, int worker) { task(Range{i * block, std::min(count, (i + 1) * block)}, worker); });
}

/// Element i of an activation buffer.
inline void* act_at(const StepContext& c, void* buffer, int64_t i) {
  return static_cast<std::byte*>(buffer) + static_cast<size_t>(i) * bytes_of(c.act);
}

}  // namespace moegen
