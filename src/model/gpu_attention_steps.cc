#include <algorithm>

#include "base/check.h"
#include "model/gpu_linear.h"

namespace moegen {
namespace {

constexpr float kLatentNormEps = 1e-6F;  // as model/latent_attention.cc

// Rows of a buffer of the wave.
int64_t in_wave(Range wave, Range rows) { return rows.begin - wave.begin; }

size_t rope_of(const GpuContext& c, const AttentionSpec& a) {
  return static_cast<size_t>(std::find(c.buffers.ropes.begin(), c.buffers.ropes.end(), a.rope) - c.buffers.ropes.begin());
}
const float* angles(const std::vector<float*>& all, size_t rope, int dim, int64_t row) { return all[rope] + row * (dim / 2); }

void project_latent(const GpuContext& c, size_t layer, const void* normed, int64_t m) {
  const AttentionSpec& a = c.spec.layers[layer].attention;
  const LayerWeights& w = c.weights.layers[layer];
  const GpuBuffers& b = c.buffers;
  const int64_t hidden = c.spec.hidden, stride = int64_t{a.num_heads} * (a.latent.plain_dim + a.latent.rope_dim);
  const auto queries = [&](const void* x, const TensorView& weight) {
    gpu_linear(c, {.x = x, .x_stride = weight.cols, .y = b.heads, .y_dtype = c.act, .y_stride = stride}, weight, {}, m);
  };
  if (const int64_t rank = a.latent.q_rank; rank == 0) {
    queries(normed, w.q);
  } else {
    gpu_linear(c, {.x = normed, .x_stride = hidden, .y = b.qkv, .y_stride = rank}, w.q_a, {}, m);
    gpu_norm(c, {.x = b.qkv, .x_stride = rank, .y = b.q_latent, .y_dtype = c.act, .y_stride = rank, .rows = m, .eps = kLatentNormEps}, w.q_a_norm);
    queries(b.q_latent, w.q_b);
  }
  gpu_linear(c, {.x = normed, .x_stride = hidden, .y = b.qkv, .y_stride = a.head_dim}, w.kv_a, {}, m);
}

void project_delta(const GpuContext& c, size_t layer, const void* normed, int64_t m) {
  const DeltaWeights& w = c.weights.layers[layer].delta;
  const int64_t stride = c.spec.layers[layer].attention.delta.projected_width();
  int64_t at = 0;
  for (const TensorView* weight : {&w.qkv, &w.z, &w.b, &w.a}) {
    if (!*weight) continue;
    gpu_linear(c, {.x = normed, .x_stride = c.spec.hidden, .y = c.buffers.qkv + at, .y_stride = stride}, *weight, {}, m);
    at += weight->rows;
  }
}

// Of each head, y = x w^T with the [outputs, k] block of kv_b that lies `row` rows of kv_rank behind the head's first.
struct HeadProduct {
  const void* x;
  int64_t x_width;  // of a head
  int64_t row, outputs, k;
  void* y;
  int64_t y_width;
};
void multiply_heads(const GpuContext& c, size_t layer, const HeadProduct& op, int64_t m) {
  const AttentionSpec& a = c.spec.layers[layer].attention;
  const GpuMatrix w = gpu_matrix(c, c.weights.layers[layer].kv_b, c.act);
  c.device.kernels().gemm(c.device, c.stream,
                          {.x = op.x,
                           .w = gpu_at(w.data, c.act, op.row * a.latent.kv_rank),
                           .y = op.y,
                           .dtype = c.act,
                           .y_dtype = c.act,
                           .m = m,
                           .n = op.outputs,
                           .k = op.k,
                           .x_stride = a.num_heads * op.x_width,
                           .w_stride = op.k,
                           .y_stride = a.num_heads * op.y_width,
                           .batch = a.num_heads,
                           .x_step = op.x_width,
                           .w_step = int64_t{a.latent.plain_dim + a.latent.v_dim} * a.latent.kv_rank,
                           .y_step = op.y_width});
}

void place_latent(const GpuContext& c, size_t layer, Range wave, const GpuMicroBatch& batch) {
  const AttentionSpec& a = c.spec.layers[layer].attention;
  const TensorView& norm = c.weights.layers[layer].kv_a_norm;
  const GpuBuffers& b = c.buffers;
  const int64_t at = in_wave(wave, batch.rows);
  const size_t rope = rope_of(c, a);
  const int64_t query = a.latent.plain_dim + a.latent.rope_dim;
  c.device.kernels().place_latent(c.device, c.stream,
                                  {.latent = b.qkv + at * a.head_dim,
                                   .latent_stride = a.head_dim,
                                   .rows = batch.rows.size(),
                                   .row = batch.row,
                                   .cos = angles(b.rope_cos, rope, a.rope.dim, batch.rows.begin),
                                   .sin = angles(b.rope_sin, rope, a.rope.dim, batch.rows.begin),
                                   .kv_rank = a.latent.kv_rank,
                                   .rope_dim = a.latent.rope_dim,
                                   .interleaved = a.rope.interleaved,
                                   .norm = norm.data,
                                   .norm_dtype = norm.dtype,
                                   .eps = kLatentNormEps,
                                   .heads = gpu_at(b.heads, c.act, at * a.num_heads * query),
                                   .head_stride = query,
                                   .num_heads = a.num_heads,
                                   .plain_dim = a.latent.plain_dim,
                                   .q = gpu_at(b.q, c.act, at * a.q_width()),
                                   .act = c.act,
                                   .slots = batch.slots,
                                   .slot_bytes = batch.slot_bytes,
                                   .num_slots = batch.num_slots});
}

GpuPlace::Norm norm_of(const AttentionSpec& a) {
  if (a.qk_norm == AttentionSpec::QkNorm::none) return GpuPlace::Norm::none;
  return a.qk_norm == AttentionSpec::QkNorm::whole ? GpuPlace::Norm::whole : GpuPlace::Norm::per_head;
}

void place(const GpuContext& c, size_t layer, Range wave, const GpuMicroBatch& batch) {
  const AttentionSpec& a = c.spec.layers[layer].attention;
  const LayerWeights& w = c.weights.layers[layer];
  const GpuBuffers& b = c.buffers;
  const int64_t at = in_wave(wave, batch.rows), stride = a.q_outputs() + 2 * a.kv_width();
  const size_t rope = rope_of(c, a);
  c.device.kernels().place(c.device, c.stream,
                           {.qkv = b.qkv + at * stride,
                            .stride = stride,
                            .q_step = a.q_outputs() / a.num_heads,
                            .rows = batch.rows.size(),
                            .row = batch.row,
                            .cos = angles(b.rope_cos, rope, a.rope.dim, batch.rows.begin),
                            .sin = angles(b.rope_sin, rope, a.rope.dim, batch.rows.begin),
                            .q_heads = a.num_heads,
                            .kv_heads = a.num_kv_heads,
                            .head_dim = a.head_dim,
                            .rope_dim = a.rope.dim,
                            .interleaved = a.rope.interleaved,
                            .rope_first = a.rope_first,
                            .norm = norm_of(a),
                            .q_norm = w.q_norm.data,
                            .k_norm = w.k_norm.data,
                            .norm_dtype = w.q_norm.dtype,
                            .eps = c.spec.norm_eps,
                            .offset = c.spec.norm_offset,
                            .k_is_v = a.k_is_v,
                            .v_norm = a.v_norm,
                            .clip = a.clip_qkv,
                            .tuning = a.tuning,
                            .tuning_step = a.tuning_step,
                            .q = gpu_at(b.q, c.act, at * a.q_width()),
                            .act = c.act,
                            .slots = batch.slots,
                            .slot_bytes = batch.slot_bytes,
                            .head_bytes = batch.head_bytes,
                            .num_slots = batch.num_slots,
                            .kv_dtype = batch.kv_dtype});
}

// attended *= sigmoid(gate), which gpu_project_qkv left in qkv behind each head of q.
void gate_attended(const GpuContext& c, const AttentionSpec& a, int64_t m) {
  c.device.kernels().gate(c.device, c.stream,
                          {.x = c.buffers.attended,
                           .act = c.act,
                           .gate = c.buffers.qkv + a.head_dim,
                           .gate_stride = a.q_outputs() + 2 * a.kv_width(),
                           .gate_step = 2 * a.head_dim,
                           .rows = m,
                           .heads = a.num_heads,
                           .head_dim = a.head_dim});
}

}  // namespace

void gpu_project_qkv(const GpuContext& c, size_t layer, Range wave) {
  const AttentionSpec& a = c.spec.layers[layer].attention;
  const LayerWeights& w = c.weights.layers[layer];
  const GpuBuffers& b = c.buffers;
  const int64_t m = wave.size(), hidden = c.spec.hidden;
  const void* normed = gpu_at(b.normed, c.act, wave.begin * hidden);
  gpu_norm_hidden(c, wave, w.attention_norm, w.attention_norm_bias);
  if (w.sinks) {
    c.device.kernels().convert(c.device, c.stream,
                               {.x = w.sinks.data,
                                .x_dtype = w.sinks.dtype,
                                .x_stride = a.num_heads,
                                .y = b.sinks,
                                .y_stride = a.num_heads,
                                .rows = 1,
                                .cols = a.num_heads});
  }
  if (a.is_latent()) {
    project_latent(c, layer, normed, m);
    return multiply_heads(c, layer,
                          {.x = b.heads,
                           .x_width = a.latent.plain_dim + a.latent.rope_dim,
                           .row = 0,
                           .outputs = a.latent.kv_rank,
                           .k = a.latent.plain_dim,
                           .y = b.q,
                           .y_width = a.head_dim},
                          m);
  }
  if (a.is_linear()) return project_delta(c, layer, normed, m);
  const int64_t stride = a.q_outputs() + 2 * a.kv_width();
  const auto project = [&](const TensorView& weight, const TensorView& bias, int64_t at) {
    gpu_linear(c, {.x = normed, .x_stride = hidden, .y = b.qkv + at, .y_stride = stride}, weight, bias, m);
  };
  project(w.q, w.q_bias, 0);
  project(w.k, w.k_bias, a.q_outputs());
  if (!a.k_is_v) project(w.v, w.v_bias, a.q_outputs() + a.kv_width());
}

void gpu_attend(const GpuContext& c, size_t layer, Range wave, const GpuMicroBatch& batch) {
  const AttentionSpec& a = c.spec.layers[layer].attention;
  const GpuBuffers& b = c.buffers;
  a.is_latent() ? place_latent(c, layer, wave, batch) : place(c, layer, wave, batch);
  const int64_t at = in_wave(wave, batch.rows);
  c.device.kernels().attention(c.device, c.stream,
                               {.q = gpu_at(b.q, c.act, at * a.q_width()),
                                .out = gpu_at(b.attended, c.act, at * a.num_heads * a.value_dim()),
                                .act = c.act,
                                .kv_dtype = batch.kv_dtype,
                                .rows = batch.rows.size(),
                                .tiles = batch.tiles,
                                .num_tiles = batch.num_tiles,
                                .max_count = batch.max_count,
                                .kv_heads = a.num_kv_heads,
                                .heads = a.num_heads / a.num_kv_heads,
                                .head_dim = a.head_dim,
                                .latent_dim = a.latent.kv_rank,
                                .slots = batch.slots,
                                .slot_bytes = batch.slot_bytes,
                                .head_bytes = batch.head_bytes,
                                .num_slots = batch.num_slots,
                                .window = a.window,
                                .chunk = a.chunk,
                                .scale = a.scale,
                                .sinks = c.weights.layers[layer].sinks ? b.sinks : nullptr});
}

void gpu_project_out(const GpuContext& c, size_t layer, Range wave) {
  const AttentionSpec& a = c.spec.layers[layer].attention;
  const LayerWeights& w = c.weights.layers[layer];
  const GpuBuffers& b = c.buffers;
  const int64_t m = wave.size(), hidden = c.spec.hidden;
  float* x = b.hidden + wave.begin * hidden;
  if (a.is_latent()) {
    multiply_heads(c, layer,
                   {.x = b.attended,
                    .x_width = a.latent.kv_rank,
                    .row = a.latent.plain_dim,
                    .outputs = a.latent.v_dim,
                    .k = a.latent.kv_rank,
                    .y = b.heads,
                    .y_width = a.latent.v_dim},
                   m);
  }
  if (a.output_gate) gate_attended(c, a, m);
  float* branch = c.spec.layers[layer].branch_norms ? b.branch + wave.begin * hidden : nullptr;
  gpu_linear(c,
             {.x = a.is_latent() ? b.heads : b.attended,
              .x_stride = w.o.cols,
              .y = branch != nullptr ? branch : x,
              .y_stride = hidden,
              .add = branch == nullptr,
              .scale = c.spec.residual_scale},
             w.o, w.o_bias, m);
  if (branch != nullptr)
    gpu_norm(c, {.x = branch, .x_stride = hidden, .y = x, .y_dtype = DType::f32, .y_stride = hidden, .rows = m, .add = true}, w.attention_out_norm);
  if (!c.spec.layers[layer].mlp.router.own_norm) gpu_norm_hidden(c, wave, w.mlp_norm, w.mlp_norm_bias);
}

}  // namespace moegen
