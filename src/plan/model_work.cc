#include "plan/model_work.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "model/kv_layout.h"

namespace moegen {

namespace {

// Of those with two dimensions.
bool is_matrix(const TensorSpec& t) { return t.shape.size() == 2 && t.part == Part::values && t.role != Role::gate_up_bias; }

// The format of a layer's matrices that this is one of, or has the scales of; null of those that no product goes through, and of routers.
MatrixFormat LayerWork::*format_of(const TensorSpec& t) {
  if (t.shape.size() != 2 || t.role == Role::gate_up_bias) return nullptr;
  if (t.expert >= 0) return &LayerWork::experts;
  switch (t.role) {
    case Role::router:
    case Role::shared_router:
      return nullptr;
    case Role::gate:
    case Role::up:
    case Role::gate_up:
    case Role::down:
    case Role::shared_gate:
    case Role::shared_up:
    case Role::shared_down:
      return &LayerWork::mlp;
    default:
      return &LayerWork::attention;
  }
}

// Of the matrices of one format: what makes up most of them names it.
struct Sum {
  double elements = 0, bytes = 0;
  double most = 0;  // elements of one matrix
  MatrixFormat format;

  void add(const TensorSpec& t, DType weights, double count, double size) {
    bytes += size;
    if (t.part != Part::values) return;
    elements += count;
    if (count <= most) return;
    most = count;
    format = MatrixFormat::plain(weights);
    if (t.quantised) format.dtype = *t.quantised;
    format.group = t.group;
  }
  [[nodiscard]] MatrixFormat result(DType weights) const {
    MatrixFormat out = elements > 0 ? format : MatrixFormat::plain(weights);
    if (elements > 0) out.bytes = bytes / elements;
    return out;
  }
};

}  // namespace

ModelWork model_work(const ModelSpec& spec, std::span<const TensorSpec> table, DType weights, DType kv) {
  ModelWork out;
  out.head = MatrixFormat::plain(weights);
  out.layers.resize(spec.layers.size());
  constexpr MatrixFormat LayerWork::*kFormats[] = {&LayerWork::attention, &LayerWork::experts, &LayerWork::mlp};
  std::vector<std::array<Sum, std::size(kFormats)>> formats(spec.layers.size());
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
    if (const auto of = format_of(tensor)) {
      const auto idx = static_cast<size_t>(std::find(std::begin(kFormats), std::end(kFormats), of) - std::begin(kFormats));
      formats[static_cast<size_t>(tensor.layer)][idx].add(tensor, weights, static_cast<double>(elements), bytes);
    }
  }
  if (out.head_bytes == 0) out.head_bytes = out.embedding_bytes;
  for (size_t l = 0; l < out.layers.size(); ++l) {
    const AttentionSpec& a = spec.layers[l].attention;
    out.layers[l].kv_bytes = static_cast<double>(layer_page_bytes(a, kv)) / kPageTokens;
    if (!a.is_linear()) {
      const AttentionShape shape(a);
      out.layers[l].key_flops = shape.flops();
      out.layers[l].prompt_key_flops = shape.prompt_flops();
      out.layers[l].expansion_flops = shape.expansion_flops();
    }
    for (size_t i = 0; i < std::size(kFormats); ++i) out.layers[l].*kFormats[i] = formats[l][i].result(weights);
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
