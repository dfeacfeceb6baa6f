#include "spec/model_spec.h"

namespace moegen {

std::vector<LinearShape> linears_of(const AttentionSpec& spec, int64_t hidden) {
  if (spec.is_linear()) {
    const int64_t heads = spec.delta.value_heads;
    return {{spec.delta.channels() + spec.q_width(), hidden}, {2 * heads, hidden}, {hidden, spec.o_width()}};
  }
  if (!spec.is_latent()) {
    std::vector<LinearShape> out{{spec.q_outputs(), hidden}, {spec.kv_width(), hidden}};
    if (!spec.k_is_v) out.push_back({spec.kv_width(), hidden});
    out.push_back({hidden, spec.q_width()});
    return out;
  }
  const LatentSpec& m = spec.latent;
  const int64_t heads = spec.num_heads;
  std::vector<LinearShape> out;
  if (m.q_rank > 0) out.push_back({m.q_rank, hidden});
  out.push_back({heads * (m.plain_dim + m.rope_dim), m.q_rank > 0 ? m.q_rank : hidden});
  out.push_back({m.kv_rank + m.rope_dim, hidden});
  out.push_back({heads * m.kv_rank, m.plain_dim, true});
  out.push_back({heads * m.v_dim, m.kv_rank, true});
  out.push_back({hidden, spec.o_width()});
  return out;
}

}  // namespace moegen
