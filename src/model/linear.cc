#include "model/linear.h"

#include <algorithm>

#include "base/checked.h"

namespace moegen {

void linear(const StepContext& c, Gemm op, const TensorView& w, const TensorView& bias, int64_t m) {
  set_weights(op, w);
  set_bias(op, bias);
  // Many tasks, however small the whole is.
  const int64_t width = std::clamp<int64_t>(round_up<int64_t>(w.rows / (8 * c.pool.size()), 16), 48, col_block(m));
  const int64_t row_tiles = ceil_div(m, kRowBlock);
  const int64_t col_tiles = ceil_div(w.rows, width);
  c.pool.parallel_for(row_tiles * col_tiles, [&](int64_t tile, int worker) {
    const int64_t row = tile % row_tiles * kRowBlock;
    const int64_t col = tile / row_tiles * width;
    Gemm part = op;
    part.scratch = scratch_of(c, worker);
    c.kernels.gemm(part, {row, std::min(m, row + kRowBlock)}, {col, std::min(w.rows, col + width)});
  });
}

void norm(const StepContext& c, RmsNorm op, const TensorView& weight, int64_t m) {
  op.weight = weight.data;
  op.weight_dtype = weight.dtype;
  op.width = weight.cols;
  if (op.eps == 0) op.eps = c.spec.norm_eps;
  op.offset = c.spec.norm_offset;
  for_blocks(c, m, 16, [&](Range rows, int) { c.kernels.rms_norm(op, rows); });
}

}  // namespace moegen
