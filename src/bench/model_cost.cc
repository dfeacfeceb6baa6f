#include "bench/model_cost.h"

#include "model/kv_layout.h"
#include "plan/machine.h"

namespace moegen {
namespace {

// Weights of a layer, in values: that every token uses, and of one expert.
double always_used(const ModelSpec& spec, const LayerSpec& layer) {
  const double hidden = spec.hidden;
  double attention = 0;
  for (const LinearShape& l : linears_of(layer.attention, spec.hidden)) attention += static_cast<double>(l.outputs * l.k);
  const double mlp = layer.mlp.dense() ? 3 * hidden * layer.mlp.width : hidden * layer.mlp.num_experts + 3 * hidden * layer.mlp.shared_width;
  return attention + mlp;
}

}  // namespace

Work model_work(const ModelSpec& spec, DType kv_dtype, const Sweeps& s) {
  const double value_bytes = spec.dtype == DType::f32 ? 4 : 2;
  const double head = static_cast<double>(spec.hidden) * spec.vocab;
  Work work{2 * head * s.samples, s.samples > 0 ? s.passes * head * value_bytes : 0};
  for (const LayerSpec& layer : spec.layers) {
    const double expert = 3.0 * spec.hidden * layer.mlp.width;
    const double always = always_used(spec, layer);
    const double chosen = layer.mlp.dense() ? 0 : layer.mlp.top_k;
    const double used = layer.mlp.dense() ? 0 : s.experts_used * layer.mlp.num_experts;
    const AttentionShape shape(layer.attention);
    work.flops += 2 * s.tokens * (always + chosen * expert);
    if (!layer.attention.is_linear()) work.flops += s.keys * shape.flops() + s.prompt_keys * shape.prompt_flops();
    work.bytes += s.passes * value_bytes * (always + used * expert);
    work.bytes += s.kv_reads * static_cast<double>(layer_page_bytes(layer.attention, kv_dtype)) / kPageTokens;
  }
  return work;
}

DType product_dtype(const ModelSpec& spec, DType act) { return act == DType::bf16 && spec.dtype == DType::bf16 ? DType::bf16 : DType::f32; }

}  // namespace moegen
