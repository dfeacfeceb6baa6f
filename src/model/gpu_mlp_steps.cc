#include "model/gpu_grouped_experts.h"
#include "model/gpu_linear.h"

namespace moegen {
namespace {

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
                              .scale = c.spec.embedding_scale});
}

void gpu_route(const GpuContext& c, int64_t num_tokens, size_t layer) {
  const MlpSpec& mlp = c.spec.layers[layer].mlp;
  const LayerWeights& w = c.weights.layers[layer];
  const GpuBuffers& b = c.buffers;
  const GpuKernels& kernels = c.device.kernels();
  gpu_linear(c, {.x = b.normed, .x_stride = c.spec.hidden, .y = b.router_logits, .y_stride = mlp.num_experts}, w.router, w.router_logit_bias,
             num_tokens);
  kernels.route(c.device, c.stream,
                {.logits = b.router_logits,
                 .tokens = num_tokens,
                 .num_experts = mlp.num_experts,
                 .top_k = mlp.top_k,
                 .sigmoid = mlp.router.scores == RouterSpec::Scores::sigmoid,
                 .bias = w.router_bias.data,
                 .bias_dtype = w.router_bias.dtype,
                 .num_groups = mlp.router.num_groups,
                 .top_groups = mlp.router.top_groups,
                 .group_best = mlp.router.group_best,
                 .renormalize = mlp.router.renormalize,
                 .scaling = mlp.router.scaling,
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
                .row_token = b.row_token});
}

void gpu_gather_normed(const GpuContext& c, int64_t num_tokens, int64_t first, int64_t count, void* to) {
  const GpuBuffers& b = c.buffers;
  const int64_t hidden = c.spec.hidden;
  c.device.kernels().move(c.device, c.stream,
                          {.x = b.normed,
                           .x_stride = hidden,
                           .picked = b.row_token + first,
                           .y = to,
                           .y_stride = hidden,
                           .rows = count,
                           .width = hidden,
                           .all_rows = num_tokens,
                           .dtype = c.act});
}

void gpu_run_expert(const GpuContext& c, const MlpWeights& mlp, int64_t num_tokens, int64_t first, int64_t last) {
  if (gpu_groups(c.act, mlp)) return gpu_run_grouped_expert(c, mlp, num_tokens, {first, last});
  const GpuBuffers& b = c.buffers;
  const int64_t hidden = c.spec.hidden;
  gpu_gather_normed(c, num_tokens, first, last - first, b.gathered);
  gate_and_up(c, mlp, b.gathered, last - first);
  down_to(c, mlp, gpu_at(b.expert_out, c.act, first * hidden), last - first);
}

void gpu_combine_experts(const GpuContext& c, int64_t num_tokens, size_t layer) {
  const GpuBuffers& b = c.buffers;
  c.device.kernels().combine(c.device, c.stream,
                             {.hidden = b.hidden,
                              .tokens = num_tokens,
                              .width = c.spec.hidden,
                              .out = b.expert_out,
                              .act = c.act,
                              .row_of = b.row_of,
                              .weight = b.weight,
                              .top_k = c.spec.layers[layer].mlp.top_k,
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
  const void* x = gpu_at(b.normed, c.act, first * hidden);
  gate_and_up(c, layer.shared, x, m);
  down_to(c, layer.shared, b.shared_out, m);
  if (layer.shared_router) gpu_linear(c, {.x = x, .x_stride = hidden, .y = b.shared_logit, .y_stride = 1}, layer.shared_router, {}, m);
  c.device.kernels().add_gated(c.device, c.stream,
                               {.hidden = b.hidden + first * hidden,
                                .x = b.shared_out,
                                .act = c.act,
                                .logit = layer.shared_router ? b.shared_logit : nullptr,
                                .rows = m,
                                .width = hidden,
                                .scale = c.spec.residual_scale});
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
           c.weights.final_norm);
  gpu_linear(c, {.x = b.logit_in, .x_stride = hidden, .y = b.logits, .y_stride = c.spec.vocab, .scale = c.spec.logit_scale}, c.weights.lm_head,
             c.weights.lm_head_bias, count);
}

}  // namespace moegen
