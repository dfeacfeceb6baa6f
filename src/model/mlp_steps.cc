#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/checked.h"
#include "model/linear.h"
#include "model/router.h"
#include "model/steps.h"

namespace moegen {
namespace {

struct MlpTile {
  const MlpRows& part;
  Range rows, cols;
};

// Calls task(tile, worker) for tiles of all parts, `cols` wide in all in each of so many matrices: one fork and join, however few rows a part has.
template <typename Task>
void for_tiles(const StepContext& c, std::span<const MlpRows> parts, int64_t cols, int64_t matrices, const Task& task) {
  const auto tiles_of = [&](const MlpRows& part) { return ceil_div(part.count, kRowBlock) * ceil_div(cols, col_block(cols, part.count, matrices)); };
  const int64_t count =
      std::accumulate(parts.begin(), parts.end(), int64_t{0}, [&](int64_t sum, const MlpRows& part) { return sum + tiles_of(part); });
  c.pool.parallel_for(count, [&](int64_t tile, int worker) {
    const MlpRows* part = parts.data();
    for (; tile >= tiles_of(*part); ++part) tile -= tiles_of(*part);
    const int64_t row_tiles = ceil_div(part->count, kRowBlock);
    const int64_t row = tile % row_tiles * kRowBlock;
    const int64_t width = col_block(cols, part->count, matrices);
    const int64_t col = tile / row_tiles * width;
    task(MlpTile{*part, {row, std::min(part->count, row + kRowBlock)}, {col, std::min(cols, col + width)}}, worker);
  });
}

void activate(const Kernels& kernels, const MlpWeights& mlp, float* gate, const float* up, int64_t count) {
  switch (mlp.activation) {
    case MlpSpec::Activation::silu:
      return kernels.silu_mul(gate, up, DType::f32, count);
    case MlpSpec::Activation::clamped_silu:
      return kernels.clamped_swiglu(gate, up, mlp.clamp, count);
    case MlpSpec::Activation::gelu:
      return kernels.gelu_mul(gate, up, count);
    case MlpSpec::Activation::relu:
      for (int64_t i = 0; i < count; ++i) gate[i] = std::max(gate[i], 0.0F);
  }
}

// Rows [part.at, ...) of `gate` become what goes into down.
void gate_and_up(const StepContext& c, std::span<const MlpRows> parts) {
  const Buffers& b = c.buffers;
  const int64_t width = parts.front().mlp->gate.rows;
  for_tiles(c, parts, width, 2, [&](const MlpTile& tile, int worker) {
    const MlpRows& part = tile.part;
    float* gate = scratch_of(c, worker) + kGemmScratchFloats;
    float* up = gate + kRowBlock * kGemmBlockCols / 2;
    const int64_t hidden = c.spec.hidden;
    const Gemm op{.x = act_at(c, b.normed, (part.first + (part.rows != nullptr ? 0 : tile.rows.begin)) * hidden),
                  .x_dtype = c.act,
                  .x_stride = hidden,
                  .rows = part.rows != nullptr ? part.rows + tile.rows.begin : nullptr,
                  .y_stride = tile.cols.size(),
                  .scratch = scratch_of(c, worker)};
    const auto project = [&](const TensorView& w, const TensorView& bias, float* y) {
      Gemm one = op;
      set_weights(one, w, tile.cols.begin);
      set_bias(one, bias, tile.cols.begin);
      one.y = y;
      return one;
    };
    Gemm both = project(part.mlp->gate, part.mlp->gate_bias, gate);
    const Gemm other = part.mlp->up ? project(part.mlp->up, part.mlp->up_bias, up) : Gemm{};
    if (part.mlp->up) both.also = &other;
    c.kernels.gemm(both, {0, tile.rows.size()}, {0, tile.cols.size()});
    const int64_t count = tile.rows.size() * op.y_stride;
    for (int64_t i = 0; part.scale != nullptr && i < count; ++i) {
      const float scale = part.scale[tile.rows.begin + i / op.y_stride];
      gate[i] *= scale;
      up[i] *= scale;
    }
    activate(c.kernels, *part.mlp, gate, up, count);
    for (int64_t i = 0; i < tile.rows.size(); ++i) {
      c.kernels.convert(gate + i * op.y_stride, DType::f32, act_at(c, b.gate, (part.at + tile.rows.begin + i) * width + tile.cols.begin), c.act,
                        op.y_stride);
    }
  });
}

// y = down(gate), or y += it.
void down(const StepContext& c, std::span<const MlpRows> parts, DType y_dtype, bool add) {
  const int64_t width = parts.front().mlp->down.cols;
  for_tiles(c, parts, c.spec.hidden, 1, [&](const MlpTile& tile, int worker) {
    Gemm op{.x = act_at(c, c.buffers.gate, tile.part.at * width),
            .x_dtype = c.act,
            .x_stride = width,
            .y = tile.part.y,
            .y_dtype = y_dtype,
            .y_stride = c.spec.hidden,
            .add = add,
            .scale = add ? c.spec.residual_scale : 1.0F,
            .scratch = scratch_of(c, worker)};
    set_weights(op, tile.part.mlp->down);
    set_bias(op, tile.part.mlp->down_bias);
    c.kernels.gemm(op, tile.rows, tile.cols);
  });
}

// normed = norm(hidden) for tokens [first, last).
void norm_all(const StepContext& c, const TensorView& weight, int64_t first, int64_t last) {
  const int64_t hidden = c.spec.hidden;
  norm(c,
       {.x = c.buffers.hidden + first * hidden,
        .x_stride = hidden,
        .y = act_at(c, c.buffers.normed, first * hidden),
        .y_dtype = c.act,
        .y_stride = hidden},
       weight, last - first);
}

}  // namespace

void route(const StepContext& c, int64_t num_tokens, size_t layer) {
  const MlpSpec& spec = c.spec.layers[layer].mlp;
  const Buffers& b = c.buffers;
  const int64_t k = spec.top_k;
  const LayerWeights& w = c.weights.layers[layer];
  const auto norm_hidden = [&](const TensorView& weight) { norm_all(c, weight, 0, num_tokens); };
  if (spec.router.own_norm) norm_hidden(w.router_norm);
  linear(c,
         {.x = b.normed,
          .x_dtype = c.act,
          .x_stride = c.spec.hidden,
          .y = b.router_logits,
          .y_dtype = DType::f32,
          .y_stride = spec.num_experts,
          .scale = spec.router.own_norm ? static_cast<float>(1 / std::sqrt(c.spec.hidden)) : 1.0F},
         w.router, w.router_logit_bias, num_tokens);
  if (c.spec.layers[layer].branch_norms) norm_hidden(w.expert_norm);
  const TensorView& correction = w.router_bias;
  if (w.expert_scales) c.kernels.convert(w.expert_scales.data, w.expert_scales.dtype, b.expert_scales, DType::f32, spec.num_experts);
  const float* bias = correction ? b.router_bias : nullptr;
  if (correction) c.kernels.convert(correction.data, correction.dtype, b.router_bias, DType::f32, spec.num_experts);
  for_blocks(c, num_tokens, 64, [&](Range tokens, int) {
    for (int64_t t = tokens.begin; t < tokens.end; ++t)
      choose_experts(c.kernels, spec, b.router_logits + t * spec.num_experts, bias, b.chosen + t * k, b.weight + t * k);
    for (int64_t i = tokens.begin * k; w.expert_scales && i < tokens.end * k; ++i) b.weight[i] *= b.expert_scales[b.chosen[i]];
  });
  // Counting sort by expert; within an expert by token.
  std::fill_n(b.expert_begin, spec.num_experts + 1, 0);
  for (int64_t i = 0; i < num_tokens * k; ++i) ++b.expert_begin[b.chosen[i] + 1];
  for (int e = 0; e < spec.num_experts; ++e) b.expert_begin[e + 1] += b.expert_begin[e];
  for (int64_t i = 0; i < num_tokens * k; ++i) {
    const int32_t row = b.expert_begin[b.chosen[i]]++;
    b.row_of[i] = row;
    b.row_token[row] = static_cast<int32_t>(i / k);
    if (spec.router.weighs_input) {
      b.row_weight[row] = b.weight[i];
      b.weight[i] = 1;
    }
  }
  for (int e = spec.num_experts; e > 0; --e) b.expert_begin[e] = b.expert_begin[e - 1];
  b.expert_begin[0] = 0;
}

void run_experts(const StepContext& c, std::span<const MlpRows> parts) {
  gate_and_up(c, parts);
  down(c, parts, c.act, false);
}

void combine_experts(const StepContext& c, int64_t num_tokens, size_t layer) {
  const Buffers& b = c.buffers;
  const int64_t k = c.spec.layers[layer].mlp.top_k;
  const int64_t hidden = c.spec.hidden;
  const bool branch = c.spec.layers[layer].branch_norms;
  float* to = branch ? b.branch : b.hidden;
  for_blocks(c, num_tokens, 16, [&](Range tokens, int) {
    if (branch) std::fill(to + tokens.begin * hidden, to + tokens.end * hidden, 0.0F);
    for (int64_t i = tokens.begin * k; i < tokens.end * k; ++i) {
      c.kernels.axpy(to + i / k * hidden, c.spec.residual_scale * b.weight[i], act_at(c, b.expert_out, b.row_of[i] * hidden), c.act, hidden);
    }
  });
}

void run_dense(const StepContext& c, const MlpWeights& mlp, int64_t first, int64_t last) {
  const MlpRows part{.mlp = &mlp, .first = first, .count = last - first, .y = c.buffers.hidden + first * c.spec.hidden};
  gate_and_up(c, {&part, 1});
  down(c, {&part, 1}, DType::f32, true);
}

void run_shared(const StepContext& c, const LayerWeights& layer, int64_t first, int64_t last) {
  const Buffers& b = c.buffers;
  const int64_t hidden = c.spec.hidden;
  const int64_t m = last - first;
  const bool branch = static_cast<bool>(layer.mlp_out_norm);
  if (branch) norm_all(c, layer.mlp_norm, first, last);
  const MlpRows part{.mlp = &layer.shared, .first = first, .count = m, .y = b.shared_out};
  gate_and_up(c, {&part, 1});
  down(c, {&part, 1}, c.act, false);
  const bool gated = static_cast<bool>(layer.shared_router);
  if (gated) {
    linear(
        c,
        {.x = act_at(c, b.normed, first * hidden), .x_dtype = c.act, .x_stride = hidden, .y = b.shared_logit, .y_dtype = DType::f32, .y_stride = 1},
        layer.shared_router, {}, m);
  }
  float* to = branch ? b.branch : b.hidden;
  const auto norm_here = [&](void* x, DType dtype, const TensorView& weight) {
    norm_rows(c, {.x = x, .x_dtype = dtype, .x_stride = hidden, .y = x, .y_dtype = dtype, .y_stride = hidden}, weight, {0, 1});
  };
  for_blocks(c, m, 16, [&](Range rows, int) {
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      if (branch) {
        norm_here(to + (first + i) * hidden, DType::f32, layer.expert_out_norm);
        norm_here(act_at(c, b.shared_out, i * hidden), c.act, layer.shared_out_norm);
      }
      const float share = c.spec.residual_scale * (gated ? 1.0F / (1.0F + std::exp(-b.shared_logit[i])) : 1.0F);
      c.kernels.axpy(to + (first + i) * hidden, share, act_at(c, b.shared_out, i * hidden), c.act, hidden);
    }
  });
}

void finish_branches(const StepContext& c, int64_t num_tokens, size_t layer) {
  const LayerWeights& w = c.weights.layers[layer];
  add_normed(c, w.mlp_out_norm, {0, num_tokens});
  float scale = 1;
  c.kernels.convert(w.layer_scale.data, w.layer_scale.dtype, &scale, DType::f32, 1);
  for_blocks(c, num_tokens * c.spec.hidden, 1 << 14, [&](Range part, int) {
    for (int64_t i = part.begin; i < part.end; ++i) c.buffers.hidden[i] *= scale;
  });
}

void compute_logits(const StepContext& c, const int32_t* rows, int64_t count) {
  const float cap = c.spec.logit_cap;
  const Buffers& b = c.buffers;
  const int64_t hidden = c.spec.hidden;
  for_blocks(c, count, 4, [&](Range r, int) {
    for (int64_t i = r.begin; i < r.end; ++i) {
      norm_rows(c,
                {.x = b.hidden + rows[i] * hidden,
                 .x_dtype = DType::f32,
                 .x_stride = hidden,
                 .y = act_at(c, b.logit_in, i * hidden),
                 .y_dtype = c.act,
                 .y_stride = hidden},
                c.weights.final_norm, {0, 1}, c.weights.final_norm_bias);
    }
  });
  linear(c,
         {.x = b.logit_in,
          .x_dtype = c.act,
          .x_stride = hidden,
          .y = b.logits,
          .y_dtype = DType::f32,
          .y_stride = c.spec.vocab,
          .scale = cap > 0 ? 2 * c.spec.logit_scale / cap : c.spec.logit_scale},
         c.weights.lm_head, c.weights.lm_head_bias, count);
  // cap * tanh(z / cap) = cap * (1 - 2 / (exp(2 z / cap) + 1)), of what is already 2 z / cap.
  for_blocks(c, cap > 0 ? count : 0, 1, [&](Range r, int) {
    for (int64_t i = r.begin; i < r.end; ++i) {
      float* x = b.logits + i * c.spec.vocab;
      static_cast<void>(c.kernels.exp_sum(x, 0, x, c.spec.vocab));
      for (int64_t j = 0; j < c.spec.vocab; ++j) x[j] = cap * (1 - 2 / (x[j] + 1));
    }
  });
}

}  // namespace moegen
