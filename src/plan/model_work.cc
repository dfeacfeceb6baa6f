#include "plan/model_work.h"

#include "model/kv_layout.h"
#include "plan/machine.h"

namespace moegen {

namespace {

// Of those with two dimensions.
bool is_matrix(const TensorSpec& t) { return t.shape.size() == 2 && t.part == Part::values && t.role != Role::gate_up_bias; }

}  // namespace

ModelWork model_work(const ModelSpec& spec, std::span<const TensorSpec> table, DType weights, DType kv) {
  ModelWork out;
  out.layers.resize(spec.layers.size());
  for (const TensorSpec& tensor : table) {
    const uint64_t elements = elements_of(tensor);
    const auto bytes = static_cast<double>(bytes_of(expected_dtype(tensor, weights), elements));
    if (tensor.layer < 0) {
      if (tensor.role == Role::embedding || tensor.role == Role::positions) out.embedding_bytes += bytes;
      if (tensor.role == Role::lm_head) out.head_bytes += bytes;
      continue;
    }
    LayerWork& layer = out.layers[static_cast<size_t>(tensor.layer)];
    const double flops = is_matrix(tensor) ? 2 * static_cast<double>(elements) : 0;
    (tensor.expert >= 0 ? layer.expert_bytes : layer.fixed_bytes) += bytes;
    if (tensor.expert < 0) layer.fixed_flops += flops;
    if (tensor.expert == 0) layer.expert_flops += flops;
  }
  for (size_t l = 0; l < out.layers.size(); ++l) {
    const AttentionSpec& a = spec.layers[l].attention;
    out.layers[l].kv_bytes = static_cast<double>(layer_page_bytes(a, kv)) / kPageTokens;
    if (!a.is_linear()) {
      const AttentionShape shape(a);
      out.layers[l].key_flops = shape.flops();
      out.layers[l].prompt_key_flops = shape.prompt_flops();
      out.layers[l].expansion_flops = shape.expansion_flops();
    }
    out.layers[l].query_bytes = static_cast<double>(a.q_width()) * static_cast<double>(bytes_of(DType::bf16));
  }
  return out;
}

double ModelWork::fixed_bytes() const {
  double sum = head_bytes;
  for (const LayerWork& layer : layers) sum += layer.fixed_bytes;
  return sum;
}

double ModelWork::expert_bytes() const {
  double sum = 0;
  for (const LayerWork& layer : layers) sum += layer.expert_bytes;
  return sum;
}

void ModelWork::scale_weights(double bytes) {
  const double factor = bytes / (fixed_bytes() + expert_bytes());
  head_bytes *= factor;
  for (LayerWork& layer : layers) {
    layer.fixed_bytes *= factor;
    layer.expert_bytes *= factor;
  }
}

}  // namespace moegen
