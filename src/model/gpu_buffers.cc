#include "model/gpu_buffers.h"

#include <algorithm>

#include "base/checked.h"

namespace moegen {

std::byte* DeviceArena::take_bytes(size_t bytes) {
  constexpr size_t kAlignment = 256;
  const size_t at = at_;
  at_ += round_up(bytes, kAlignment);
  used_ = std::max(used_, at_);
  return memory_ == nullptr ? nullptr : memory_ + at;
}

std::vector<KvGroup> reaches_of(const ModelSpec& spec) {
  std::vector<KvGroup> out;
  for (const LayerSpec& layer : spec.layers) {
    const KvGroup reach{layer.attention.window, layer.attention.chunk};
    if (std::find(out.begin(), out.end(), reach) == out.end()) out.push_back(reach);
  }
  return out;
}

size_t reach_of(const std::vector<KvGroup>& reaches, const AttentionSpec& a) {
  return static_cast<size_t>(std::find(reaches.begin(), reaches.end(), KvGroup{a.window, a.chunk}) - reaches.begin());
}

namespace {

// The widest of all layers.
struct Widths {
  int64_t q = 0, qkv = 0, handed_qkv = 0, q_rank = 0, heads = 0, attended = 0, query_stride = 0, attended_stride = 0, num_heads = 0, experts = 0,
          top_k = 0, mlp = 0, shared = 0;
  bool mlp_bias = false, weighs_input = false, branch_norms = false;

  Widths(const ModelSpec& spec, DType act) {
    const auto widen = [](int64_t& width, int64_t of_layer) { width = std::max(width, of_layer); };
    for (const LayerSpec& layer : spec.layers) {
      const AttentionSpec& a = layer.attention;
      const LatentSpec& m = a.latent;
      widen(num_heads, a.num_heads);
      widen(attended, int64_t{a.num_heads} * a.value_dim());
      widen(query_stride, moegen::query_stride(a));
      widen(attended_stride, moegen::attended_stride(a, act));
      if (a.is_linear()) {
        widen(qkv, a.delta.projected_width());
      } else {
        widen(q, a.q_width());
        widen(handed_qkv, a.is_latent() ? std::max(m.q_rank, m.kv_rank + m.rope_dim) : a.q_outputs() + 2 * a.kv_width());
      }
      if (a.is_latent()) {
        widen(q_rank, m.q_rank);
        widen(heads, int64_t{a.num_heads} * std::max(m.plain_dim + m.rope_dim, m.v_dim));
      }
      widen(experts, layer.mlp.num_experts);
      widen(top_k, layer.mlp.top_k);
      widen(mlp, std::max(layer.mlp.width, layer.mlp.shared_width));
      widen(shared, layer.mlp.shared_width);
      widen(qkv, handed_qkv);
      branch_norms = branch_norms || layer.branch_norms;
      mlp_bias = mlp_bias || layer.mlp.bias;
      weighs_input = weighs_input || layer.mlp.router.weighs_input;
    }
  }
};

}  // namespace

GpuBuffers::GpuBuffers(DeviceArena& arena, const ModelSpec& spec, DType act, const PassSizes& sizes, int64_t expanded_elements)
    : reaches(reaches_of(spec)) {
  const Widths w(spec, act);
  const int64_t tokens = sizes.pass_tokens, wave = sizes.wave_tokens, hidden_width = spec.hidden, batch = sizes.expert_micro_batch;
  const auto take_act = [&](int64_t count) -> void* { return arena.take_bytes(static_cast<size_t>(count) * moegen::bytes_of(act)); };
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& a = layer.attention;
    if (!a.is_linear() && std::find(ropes.begin(), ropes.end(), a.rope) == ropes.end()) ropes.push_back(a.rope);
  }
  hidden = arena.take<float>(tokens * hidden_width);
  normed = take_act(tokens * hidden_width);
  branch = arena.take<float>(w.branch_norms ? tokens * hidden_width : 0);
  for (const RopeSpec& rope : ropes) {
    rope_cos.push_back(arena.take<float>(tokens * rope.dim / 2));
    rope_sin.push_back(arena.take<float>(tokens * rope.dim / 2));
  }
  for (size_t i = 0; i < reaches.size(); ++i) {
    rows.push_back(arena.take<GpuRow>(tokens));
    tiles.push_back(arena.take<GpuTile>(tokens));
  }
  logit_rows = arena.take<int32_t>(tokens);
  for (const LayerSpec& layer : spec.layers)
    expert_tables.push_back(layer.mlp.dense() || act != DType::bf16 ? nullptr : arena.take<GpuExpertWeights>(layer.mlp.num_experts));
  positions = arena.take<int32_t>(spec.positions > 0 ? tokens : 0);
  handed_normed = take_act(sizes.cpu_expert_rows * hidden_width);
  const int64_t attention_rows = sizes.cpu_attention_rows;
  handed_rows = arena.take<int32_t>(attention_rows > 0 ? tokens : 0);
  handed_qkv = arena.take<float>(attention_rows * w.handed_qkv);
  handed_q = take_act(w.heads > 0 ? attention_rows * w.query_stride : 0);
  handed_heads = take_act(attention_rows * w.heads);
  handed_attended = take_act(attention_rows * w.attended_stride);
  expanded = arena.take<float>(expanded_elements);
  widened = arena.take<float>(act == DType::f32 ? 0 : std::max({tokens * hidden_width, wave * std::max(w.attended, w.heads), batch * w.mlp}));
  const size_t shared_room = arena.at();

  embedded = arena.take<float>(tokens * hidden_width);

  arena.rewind(shared_room);
  qkv = arena.take<float>(wave * w.qkv);
  q = take_act(wave * w.q);
  attended = take_act(wave * w.attended);
  q_latent = take_act(wave * w.q_rank);
  heads = take_act(wave * w.heads);
  sinks = arena.take<float>(w.num_heads);

  arena.rewind(shared_room);
  router_logits = arena.take<float>(tokens * w.experts);
  chosen = arena.take<int32_t>(tokens * w.top_k);
  weight = arena.take<float>(tokens * w.top_k);
  row_token = arena.take<int32_t>(tokens * w.top_k);
  row_weight = arena.take<float>(w.weighs_input ? tokens * w.top_k : 0);
  row_of = arena.take<int32_t>(tokens * w.top_k);
  sort_counts = arena.take<int32_t>(ceil_div(tokens, kGpuSortTokens) * w.experts);
  expert_begin = arena.take<int32_t>(w.experts + 1);
  expert_out = take_act(tokens * w.top_k * hidden_width);
  gathered = take_act(batch * hidden_width);
  gate = arena.take<float>(batch * w.mlp);
  up = arena.take<float>(batch * w.mlp);
  activated = take_act(batch * w.mlp);
  down = arena.take<float>(w.mlp_bias ? batch * hidden_width : 0);
  shared_out = take_act(w.shared > 0 ? batch * hidden_width : 0);
  shared_logit = arena.take<float>(w.shared > 0 ? batch : 0);

  arena.rewind(shared_room);
  logit_in = take_act(sizes.logit_rows * hidden_width);
  logits = arena.take<float>(sizes.logit_rows * spec.vocab);
  queries = arena.take<LogitQuery>(sizes.logit_rows);
  segments = arena.take<GpuSegment>(sizes.logit_rows * GpuSummarize{.width = spec.vocab}.segments_of_row());
  summaries = arena.take<LogitSummary>(sizes.logit_rows);
  candidates = arena.take<LogitCandidate>(sizes.logit_rows * kLogitCandidates);
  arena.skip();
}

size_t gpu_buffer_bytes(const ModelSpec& spec, DType act, const PassSizes& sizes, int64_t expanded_elements) {
  DeviceArena measure;
  const GpuBuffers buffers(measure, spec, act, sizes, expanded_elements);
  return measure.used();
}

}  // namespace moegen
