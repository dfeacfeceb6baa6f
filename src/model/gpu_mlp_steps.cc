#include <cmath>

#include "model/gpu_grouped_experts.h"
#include "model/gpu_linear.h"

namespace moegen {
namespace {

GpuRoute::Scores scores_of(RouterSpec::Scores scores) {
  if (scores == RouterSpec::Scores::sparse_mixer) return GpuRoute::Scores::sparse_mixer;
  return scores == RouterSpec::Scores::sigmoid ? GpuRoute::Scores::sigmoid : GpuRoute::Scores::softmax;
}

// x [m, H] act -> activated [m, width].
void gate_and_up(const GpuContext& c, const MlpWeights& mlp, const void* x, int64_t m) {
  const GpuBuffers& b = c.buffers;
  const int64_t width = mlp.gate.rows;
  const auto project = [&](const TensorView& w, const TensorView& bias, float* y) {
    gpu_linear(c, {.x = x, .x_stride = c.spec.hidden, .y = y, .y_stride = width}, w, bias, m);
  };
  project(mlp.gate, mlp.gate_bias, b.gate);
  if (mlp.up) project(mlp.up, mlp.up_bias, b.up);
  c.device.kernels().activate(c.device, c.stream,
                              {.kind = gpu_activation(mlp.activation),
                               .gate = b.gate,
                               .up = mlp.up ? b.up : nullptr,
                               .clamp = mlp.clamp,
                               .out = b.activated,
                               .out_dtype = c.act,
                               .rows = m,
                               .width = width});
}

// activated -> y [m, H] act.
void down_to(const GpuContext& c, const MlpWeights& mlp, void* y, int64_t m) {
  const GpuBuffers& b = c.buffers;
  const int64_t hidden = c.spec.hidden;
  const bool biased = static_cast<bool>(mlp.down_bias);
  gpu_linear(c, {.x = b.activated, .x_stride = mlp.down.cols, .y = biased ? b.down : y, .y_dtype = biased ? DType::f32 : c.act, .y_stride = hidden},
             mlp.down, mlp.down_bias, m);
  if (!biased) return;
  c.device.kernels().convert(
      c.device, c.stream,
      {.x = b.down, .x_dtype = DType::f32, .x_stride = hidden, .y = y, .y_dtype = c.act, .y_stride = hidden, .rows = m, .cols = hidden});
}

}  // namespace

void gpu_embed(const GpuContext& c, int64_t num_tokens) {
  const int64_t hidden = c.spec.hidden;
  c.device.kernels().convert(c.device, c.stream,
                             {.x = c.buffers.embedded,
                              .x_dtype = c.weights.embedding.dtype,
                              .x_stride = hidden,
                              .y = c.buffers.hidden,
                              .y_stride = hidden,
                              .rows = num_tokens,
                              .cols = hidden,
                              .scale = c.spec.embedding_scale_in(c.act)});
  const TensorView& positions = c.weights.positions;
  if (!positions) return;
  c.device.kernels().add_rows(c.device, c.stream,
                              {.x = positions.data,
                               .dtype = positions.dtype,
                               .all_rows = positions.rows,
                               .picked = c.buffers.positions,
                               .y = c.buffers.hidden,
                               .rows = num_tokens,
                               .width = hidden});
}

void gpu_route(const GpuContext& c, int64_t num_tokens, size_t layer) {
  const MlpSpec& mlp = c.spec.layers[layer].mlp;
  const LayerWeights& w = c.weights.layers[layer];
  const GpuBuffers& b = c.buffers;
  const GpuKernels& kernels = c.device.kernels();
  if (mlp.router.own_norm) gpu_norm_hidden(c, {0, num_tokens}, w.router_norm);
  gpu_linear(c,
             {.x = b.normed,
              .x_stride = c.spec.hidden,
              .y = b.router_logits,
              .y_stride = mlp.num_experts,
              .scale = mlp.router.own_norm ? static_cast<float>(1 / std::sqrt(c.spec.hidden)) : 1.0F},
             w.router, w.router_logit_bias, num_tokens);
  if (c.spec.layers[layer].branch_norms) gpu_norm_hidden(c, {0, num_tokens}, w.expert_norm);
  kernels.route(c.device, c.stream,
                {.logits = b.router_logits,
                 .tokens = num_tokens,
                 .num_experts = mlp.num_experts,
                 .top_k = mlp.top_k,
                 .scores = scores_of(mlp.router.scores),
                 .jitter = mlp.router.jitter,
                 .bias = w.router_bias.data,
                 .bias_dtype = w.router_bias.dtype,
                 .num_groups = mlp.router.num_groups,
                 .top_groups = mlp.router.top_groups,
                 .group_best = mlp.router.group_best,
                 .renormalize = mlp.router.renormalize,
                 .scaling = mlp.router.scaling,
                 .expert_scales = w.expert_scales.data,
                 .expert_scales_dtype = w.expert_scales.dtype,
                 .chosen = b.chosen,
                 .weight = b.weight});
  kernels.sort(c.device, c.stream,
               {.chosen = b.chosen,
                .tokens = num_tokens,
                .num_experts = mlp.num_experts,
                .top_k = mlp.top_k,
                .counts = b.sort_counts,
                .expert_begin = b.expert_begin,
                .row_of = b.row_of,
                .row_token = b.row_token,
                .weight = b.weight,
                .row_weight = mlp.router.weighs_input ? b.row_weight : nullptr});
}

void gpu_gather_normed(const GpuContext& c, int64_t num_tokens, size_t layer, Range rows, void* to) {
  const GpuBuffers& b = c.buffers;
  const int64_t hidden = c.spec.hidden;
  c.device.kernels().move(c.device, c.stream,
                          {.x = b.normed,
                           .x_stride = hidden,
                           .picked = b.row_token + rows.begin,
                           .y = to,
                           .y_stride = hidden,
                           .rows = rows.size(),
                           .width = hidden,
                           .all_rows = num_tokens,
                           .dtype = c.act,
                           .scale = c.spec.layers[layer].mlp.router.weighs_input ? b.row_weight + rows.begin : nullptr});
}

void gpu_run_expert(const GpuContext& c, const MlpWeights& mlp, int64_t num_tokens, size_t layer, Range rows) {
  if (gpu_groups(c.act, c.spec.layers[layer].mlp, mlp)) return gpu_run_grouped_expert(c, mlp, num_tokens, rows);
  const GpuBuffers& b = c.buffers;
  gpu_gather_normed(c, num_tokens, layer, rows, b.gathered);
  gate_and_up(c, mlp, b.gathered, rows.size());
  down_to(c, mlp, gpu_at(b.expert_out, c.act, rows.begin * c.spec.hidden), rows.size());
}

void gpu_combine_experts(const GpuContext& c, int64_t num_tokens, size_t layer) {
  const MlpSpec& mlp = c.spec.layers[layer].mlp;
  const GpuBuffers& b = c.buffers;
  const bool branch = c.spec.layers[layer].branch_norms;
  if (branch) c.device.fill(c.stream, b.branch, 0, static_cast<size_t>(num_tokens * c.spec.hidden) * sizeof(float));
  c.device.kernels().combine(c.device, c.stream,
                             {.hidden = branch ? b.branch : b.hidden,
                              .tokens = num_tokens,
                              .width = c.spec.hidden,
                              .out = b.expert_out,
                              .act = c.act,
                              .row_of = b.row_of,
                              .weight = mlp.router.weighs_input ? nullptr : b.weight,
                              .top_k = mlp.top_k,
                              .scale = c.spec.residual_scale});
}

void gpu_run_dense(const GpuContext& c, const MlpWeights& mlp, int64_t first, int64_t last) {
  const GpuBuffers& b = c.buffers;
  const int64_t hidden = c.spec.hidden;
  gate_and_up(c, mlp, gpu_at(b.normed, c.act, first * hidden), last - first);
  gpu_linear(
      c,
      {.x = b.activated, .x_stride = mlp.down.cols, .y = b.hidden + first * hidden, .y_stride = hidden, .add = true, .scale = c.spec.residual_scale},
      mlp.down, mlp.down_bias, last - first);
}

void gpu_run_shared(const GpuContext& c, const LayerWeights& layer, int64_t first, int64_t last) {
  const GpuBuffers& b = c.buffers;
  const int64_t hidden = c.spec.hidden, m = last - first;
  const bool branch = static_cast<bool>(layer.mlp_out_norm);
  float* to = (branch ? b.branch : b.hidden) + first * hidden;
  const void* x = gpu_at(b.normed, c.act, first * hidden);
  if (branch) gpu_norm_hidden(c, {first, last}, layer.mlp_norm);
  gate_and_up(c, layer.shared, x, m);
  down_to(c, layer.shared, b.shared_out, m);
  const auto norm_here = [&](void* y, DType dtype, const TensorView& weight) {
    gpu_norm(c, {.x = y, .x_dtype = dtype, .x_stride = hidden, .y = y, .y_dtype = dtype, .y_stride = hidden, .rows = m}, weight);
  };
  if (branch) {
    norm_here(to, DType::f32, layer.expert_out_norm);
    norm_here(b.shared_out, c.act, layer.shared_out_norm);
  }
  if (layer.shared_router) gpu_linear(c, {.x = x, .x_stride = hidden, .y = b.shared_logit, .y_stride = 1}, layer.shared_router, {}, m);
  c.device.kernels().add_gated(c.device, c.stream,
                               {.hidden = to,
                                .x = b.shared_out,
                                .act = c.act,
                                .logit = layer.shared_router ? b.shared_logit : nullptr,
                                .rows = m,
                                .width = hidden,
                                .scale = c.spec.residual_scale});
}

void gpu_finish_branches(const GpuContext& c, int64_t num_tokens, size_t layer) {
  const LayerWeights& w = c.weights.layers[layer];
  const GpuBuffers& b = c.buffers;
  const int64_t hidden = c.spec.hidden;
  gpu_norm(c,
           {.x = b.branch,
            .x_stride = hidden,
            .y = b.hidden,
            .y_dtype = DType::f32,
            .y_stride = hidden,
            .rows = num_tokens,
            .add = true,
            .scale = w.layer_scale.data,
            .scale_dtype = w.layer_scale.dtype},
           w.mlp_out_norm);
}

void gpu_compute_logits(const GpuContext& c, int64_t num_tokens, int64_t first, int64_t count) {
  const GpuBuffers& b = c.buffers;
  const int64_t hidden = c.spec.hidden;
  gpu_norm(c,
           {.x = b.hidden,
            .x_stride = hidden,
            .x_rows = num_tokens,
            .picked = b.logit_rows + first,
            .y = b.logit_in,
            .y_dtype = c.act,
            .y_stride = hidden,
            .rows = count},
           c.weights.final_norm, c.weights.final_norm_bias);
  gpu_linear(c, {.x = b.logit_in, .x_stride = hidden, .y = b.logits, .y_stride = c.spec.vocab, .scale = c.spec.logit_scale}, c.weights.lm_head,
             c.weights.lm_head_bias, count);
  if (c.spec.logit_cap > 0)
    c.device.kernels().cap(c.device, c.stream, {.x = b.logits, .rows = count, .width = c.spec.vocab, .cap = c.spec.logit_cap});
}

}  // namespace moegen
