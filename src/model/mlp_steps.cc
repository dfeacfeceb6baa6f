#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "kernels/route.h"
#include "model/linear.h"
#include "model/steps.h"

namespace moegen {
namespace {

// Rows of `gate` [m, width] become silu(gate(x)) * up(x); x is normed, gathered by `rows` or from token `first` on.
void gate_and_up(const StepContext& c, const MlpWeights& mlp, const int32_t* rows, int64_t first, int64_t m) {
  const Buffers& b = c.buffers;
  const int64_t width = mlp.gate.rows;
  Gemm op{.x = rows != nullptr ? b.normed : act_at(c, b.normed, first * c.spec.hidden),
          .x_dtype = c.act,
          .x_stride = c.spec.hidden,
          .rows = rows,
          .y = b.gate,
          .y_dtype = c.act,
          .y_stride = width};
  linear(c, op, mlp.gate, {}, m);
  op.y = b.up;
  linear(c, op, mlp.up, {}, m);
  for_blocks(c, m, 16, [&](Range r, int) {
    c.kernels.silu_mul(act_at(c, b.gate, r.begin * width), act_at(c, b.up, r.begin * width), c.act, r.size() * width);
  });
}

}  // namespace

void route(const StepContext& c, int64_t num_tokens, size_t layer) {
  const MlpSpec& spec = c.spec.layers[layer].mlp;
  const Buffers& b = c.buffers;
  const int64_t k = spec.top_k;
  linear(c, {.x = b.normed, .x_dtype = c.act, .x_stride = c.spec.hidden, .y = b.router_logits, .y_dtype = DType::f32, .y_stride = spec.num_experts},
         c.weights.layers[layer].router, {}, num_tokens);
  for_blocks(c, num_tokens, 64, [&](Range tokens, int) {
    for (int64_t t = tokens.begin; t < tokens.end; ++t) {
      route_softmax(c.kernels, b.router_logits + t * spec.num_experts, spec.num_experts, spec.top_k, spec.renormalize, b.chosen + t * k,
                    b.weight + t * k);
    }
  });
  // Counting sort by expert; within an expert by token.
  std::fill_n(b.expert_begin, spec.num_experts + 1, 0);
  for (int64_t i = 0; i < num_tokens * k; ++i) ++b.expert_begin[b.chosen[i] + 1];
  for (int e = 0; e < spec.num_experts; ++e) b.expert_begin[e + 1] += b.expert_begin[e];
  for (int64_t i = 0; i < num_tokens * k; ++i) {
    const int32_t row = b.expert_begin[b.chosen[i]]++;
    b.row_of[i] = row;
    b.row_token[row] = static_cast<int32_t>(i / k);
  }
  for (int e = spec.num_experts; e > 0; --e) b.expert_begin[e] = b.expert_begin[e - 1];
  b.expert_begin[0] = 0;
}

void run_expert(const StepContext& c, const MlpWeights& expert, int64_t first, int64_t last) {
  const Buffers& b = c.buffers;
  gate_and_up(c, expert, b.row_token + first, 0, last - first);
  linear(c,
         {.x = b.gate,
          .x_dtype = c.act,
          .x_stride = expert.down.cols,
          .y = act_at(c, b.expert_out, first * c.spec.hidden),
          .y_dtype = c.act,
          .y_stride = c.spec.hidden},
         expert.down, {}, last - first);
}

void combine_experts(const StepContext& c, int64_t num_tokens, size_t layer) {
  const Buffers& b = c.buffers;
  const int64_t k = c.spec.layers[layer].mlp.top_k;
  const int64_t hidden = c.spec.hidden;
  for_blocks(c, num_tokens, 16, [&](Range tokens, int) {
    for (int64_t i = tokens.begin * k; i < tokens.end * k; ++i) {
      c.kernels.axpy(b.hidden + i / k * hidden, b.weight[i], act_at(c, b.expert_out, b.row_of[i] * hidden), c.act, hidden);
    }
  });
}

void run_dense(const StepContext& c, const MlpWeights& mlp, int64_t first, int64_t last) {
  const Buffers& b = c.buffers;
  gate_and_up(c, mlp, nullptr, first, last - first);
  linear(c,
         {.x = b.gate,
          .x_dtype = c.act,
          .x_stride = mlp.down.cols,
          .y = b.hidden + first * c.spec.hidden,
          .y_dtype = DType::f32,
          .y_stride = c.spec.hidden,
          .add = true},
         mlp.down, {}, last - first);
}

void run_shared(const StepContext& c, const LayerWeights& layer, int64_t first, int64_t last) {
  const Buffers& b = c.buffers;
  const int64_t hidden = c.spec.hidden;
  const int64_t m = last - first;
  gate_and_up(c, layer.shared, nullptr, first, m);
  linear(c, {.x = b.gate, .x_dtype = c.act, .x_stride = layer.shared.down.cols, .y = b.shared_out, .y_dtype = c.act, .y_stride = hidden},
         layer.shared.down, {}, m);
  linear(c,
         {.x = act_at(c, b.normed, first * hidden), .x_dtype = c.act, .x_stride = hidden, .y = b.shared_logit, .y_dtype = DType::f32, .y_stride = 1},
         layer.shared_router, {}, m);
  for_blocks(c, m, 16, [&](Range rows, int) {
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      const float share = 1.0F / (1.0F + std::exp(-b.shared_logit[i]));
      c.kernels.axpy(b.hidden + (first + i) * hidden, share, act_at(c, b.shared_out, i * hidden), c.act, hidden);
    }
  });
}

void compute_logits(const StepContext& c, const int32_t* rows, int64_t count) {
  const Buffers& b = c.buffers;
  const int64_t hidden = c.spec.hidden;
  const TensorView& weight = c.weights.final_norm;
  for_blocks(c, count, 4, [&](Range r, int) {
    for (int64_t i = r.begin; i < r.end; ++i) {
      c.kernels.rms_norm({b.hidden + rows[i] * hidden, DType::f32, hidden, weight.data, weight.dtype, act_at(c, b.logit_in, i * hidden), c.act,
                          hidden, hidden, c.spec.norm_eps},
                         {0, 1});
    }
  });
  linear(c, {.x = b.logit_in, .x_dtype = c.act, .x_stride = hidden, .y = b.logits, .y_dtype = DType::f32, .y_stride = c.spec.vocab},
         c.weights.lm_head, {}, count);
}

}  // namespace moegen
