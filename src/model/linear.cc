#include "model/linear.h"

#include <algorithm>

#include "base/checked.h"

namespace moegen {

void linear(const StepContext& c, Gemm op, const TensorView& w, const TensorView& bias, int64_t m) {
  op.w = w.data;
  op.w_dtype = w.dtype;
  op.k = w.cols;
  op.bias = bias.data;
  op.bias_dtype = bias.dtype;
  const int64_t col_block = m >= kRowBlock ? kColBlock : kColBlock / 4;  // few rows: many tasks all the same
  const int64_t row_tiles = ceil_div(m, kRowBlock);
  const int64_t col_tiles = ceil_div(w.rows, col_block);
  c.pool.parallel_for(row_tiles * col_tiles, [&](int64_t tile, int) {
    const int64_t row = tile % row_tiles * kRowBlock;
    const int64_t col = tile / row_tiles * col_block;
    c.kernels.gemm(op, {row, std::min(m, row + kRowBlock)}, {col, std::min(w.rows, col + col_block)});
  });
}

void norm(const StepContext& c, RmsNorm op, const TensorView& weight, int64_t m) {
  op.weight = weight.data;
  op.weight_dtype = weight.dtype;
  op.width = weight.cols;
  op.eps = c.spec.norm_eps;
  for_blocks(c, m, 16, [&](Range rows, int) { c.kernels.rms_norm(op, rows); });
}

}  // namespace moegen
