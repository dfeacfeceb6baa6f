#include "model/buffers.h"

#include <algorithm>

#include "kernels/functions.h"
#include "model/delta_attention.h"
#include "model/expanded_attention.h"
#include "model/linear.h"

namespace moegen {

int64_t expanded_key_dim(const AttentionSpec& a) { return LatentExpansion::key_dim(a.latent.plain_dim, a.latent.rope_dim); }

int64_t query_stride(const AttentionSpec& a) {
  return a.is_latent() ? a.num_heads * std::max<int64_t>(a.head_dim, expanded_key_dim(a)) : a.q_width();
}

int64_t attended_stride(const AttentionSpec& a, DType act) {
  if (!a.is_latent()) return int64_t{a.num_heads} * a.value_dim();
  const int64_t carry = attention_carry(a.latent.v_dim) * static_cast<int64_t>(sizeof(float) / bytes_of(act));
  return a.num_heads * std::max<int64_t>(a.value_dim(), carry);
}

Buffers::Buffers(Arena& arena, const ModelSpec& spec, DType act, const PassSizes& sizes) {
  int64_t q_width = 0, qkv_width = 0, q_rank = 0, head_widths = 0, attended_width = 0, experts = 0, top_k = 0, width = 0, shared = 0, head_dim = 0,
          delta = 0, num_heads = 0, kv_b_elements = 0, expanded = 0;
  bool weighs_input = false, branch_norms = false;
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& a = layer.attention;
    q_width = std::max<int64_t>(q_width, query_stride(a));
    if (a.is_linear()) {
      qkv_width = std::max<int64_t>(qkv_width, a.delta.projected_width());
      delta = std::max(delta, delta_scratch(a.delta));
    }
    attended_width = std::max(attended_width, attended_stride(a, act));
    if (const LatentSpec& m = a.latent; a.is_latent()) {
      qkv_width = std::max<int64_t>(qkv_width, m.q_rank + m.kv_rank + m.rope_dim);
      q_rank = std::max<int64_t>(q_rank, m.q_rank);
      head_widths = std::max<int64_t>(head_widths, int64_t{a.num_heads} * std::max(m.plain_dim + m.rope_dim, m.v_dim));
      kv_b_elements = std::max(kv_b_elements, int64_t{a.num_heads} * (m.plain_dim + m.v_dim) * m.kv_rank);
      expanded = std::max(expanded, ExpandedScratch(a, act).floats());
    } else {
      qkv_width = std::max<int64_t>(qkv_width, a.q_outputs() + 2 * a.kv_width());
    }
    num_heads = std::max<int64_t>(num_heads, a.num_heads);
    head_dim = std::max<int64_t>(head_dim, a.head_dim);
    if (!a.is_linear() && std::find(ropes.begin(), ropes.end(), a.rope) == ropes.end()) ropes.push_back(a.rope);
    experts = std::max<int64_t>(experts, layer.mlp.num_experts);
    top_k = std::max<int64_t>(top_k, layer.mlp.top_k);
    branch_norms = branch_norms || layer.branch_norms;
    weighs_input = weighs_input || layer.mlp.router.weighs_input;
    width = std::max<int64_t>({width, layer.mlp.width, layer.mlp.shared_width});
    shared = std::max<int64_t>(shared, layer.mlp.shared_width);
  }
  const int64_t tokens = sizes.pass_tokens;
  const auto take_act = [&](int64_t count) -> void* { return arena.take_bytes(static_cast<size_t>(count) * bytes_of(act)); };
  positions = arena.take<int64_t>(tokens);
  hidden = arena.take<float>(tokens * spec.hidden);
  normed = take_act(tokens * spec.hidden);
  branch = arena.take<float>(branch_norms ? tokens * spec.hidden : 0);
  for (const RopeSpec& rope : ropes) {
    rope_cos.push_back(arena.take<float>(tokens * rope.dim / 2));
    rope_sin.push_back(arena.take<float>(tokens * rope.dim / 2));
  }
  query_blocks = arena.take<QueryBlock>(3 * sizes.sequences + tokens / kPageTokens + tokens / sizes.wave_tokens);
  block_begin = arena.take<int64_t>(sizes.sequences + 1);
  wave_begin = arena.take<int64_t>(ceil_div(tokens, sizes.wave_tokens) + 1);
  const size_t shared_room = arena.at();

  qkv = arena.take<float>(sizes.wave_tokens * qkv_width);
  q = take_act(sizes.wave_tokens * q_width);
  sinks = arena.take<float>(num_heads);
  attended = take_act(sizes.wave_tokens * attended_width);
  q_latent = take_act(sizes.wave_tokens * q_rank);
  heads = take_act(sizes.wave_tokens * head_widths);
  kv_b = take_act(kv_b_elements);
  prompt_parts = arena.take<PromptPart>(kv_b_elements > 0 ? sizes.sequences + 2 * int64_t{kPiecesPerThread} * sizes.threads : 0);

  arena.rewind(shared_room);
  router_logits = arena.take<float>(tokens * experts);
  router_bias = arena.take<float>(experts);
  expert_scales = arena.take<float>(experts);
  chosen = arena.take<int32_t>(tokens * top_k);
  weight = arena.take<float>(tokens * top_k);
  row_weight = arena.take<float>(weighs_input ? tokens * top_k : 0);
  row_token = arena.take<int32_t>(tokens * top_k);
  row_of = arena.take<int32_t>(tokens * top_k);
  expert_begin = arena.take<int32_t>(experts + 1);
  expert_out = take_act(tokens * top_k * spec.hidden);
  gate = take_act(sizes.expert_micro_batch * width);
  parts = arena.take<MlpRows>(experts);
  shared_out = take_act(shared > 0 ? sizes.expert_micro_batch * spec.hidden : 0);
  shared_logit = arena.take<float>(shared > 0 ? sizes.expert_micro_batch : 0);

  arena.rewind(shared_room);
  logit_in = take_act(sizes.logit_rows * spec.hidden);
  logits = arena.take<float>(sizes.logit_rows * spec.vocab);

  arena.skip();
  scratch_floats = round_up<int64_t>(std::max({attention_scratch(head_dim), delta, expanded, kGemmScratchFloats + kRowBlock * kGemmBlockCols}), 16);
  scratch = arena.take<float>(sizes.threads * scratch_floats);
}

size_t Buffers::bytes_needed(const ModelSpec& spec, DType act, const PassSizes& sizes) {
  Arena measure;
  const Buffers buffers(measure, spec, act, sizes);
  return measure.used();
}

}  // namespace moegen
