#include "profile/shapes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "base/check.h"
#include "base/error.h"
#include "plan/model_work.h"

namespace moegen {
namespace {

constexpr size_t kMostShapes = 8;  // of a kind: the time is shared out among them

template <typename T>
void add(std::vector<T>& all, const std::type_identity_t<T>& shape) {
  if (all.size() < kMostShapes && std::find(all.begin(), all.end(), shape) == all.end()) all.push_back(shape);
}

// As config.json has them, so that two looks at the same model have one profile. A checkpoint may know better: where config.json is wrong of one of
// its matrices, all are measured as if they were plain.
std::vector<LayerWork> formats_of(const ModelSpec& spec, const MatrixFormat& plain) {
  try {
    if (!spec.quantisation.none()) return model_work(spec, tensor_table(spec), spec.dtype, DType::bf16).layers;
  } catch (const Error&) {
  }
  return std::vector<LayerWork>(spec.layers.size(), {.attention = plain, .experts = plain, .mlp = plain});
}

}  // namespace

ModelShapes shapes_of(const ModelSpec& spec) {
  MOEGEN_CHECK(!spec.layers.empty());
  ModelShapes shapes;
  shapes.spec = spec;
  const auto with_experts = std::find_if(spec.layers.begin(), spec.layers.end(), [](const LayerSpec& l) { return !l.mlp.dense(); });
  shapes.spec.layers = {with_experts != spec.layers.end() ? *with_experts : spec.layers.front()};
  if (shapes.spec.layers[0].attention.is_linear()) {  // rows of the others are measured
    const auto other = std::find_if(spec.layers.begin(), spec.layers.end(), [](const LayerSpec& l) { return !l.attention.is_linear(); });
    shapes.spec.layers[0].attention = other != spec.layers.end() ? other->attention : default_model().layers[0].attention;
  }
  shapes.spec.layers[0].attention.output_gate = false;
  if (AttentionSpec& a = shapes.spec.layers[0].attention; a.is_latent()) {  // rows are turned and stored at the same rate elsewhere
    a.head_dim = a.latent.plain_dim + a.latent.rope_dim + a.latent.plain_dim % 2;
    a.latent = {};
  }
  const int64_t hidden = spec.hidden;
  const MatrixFormat plain = MatrixFormat::plain(spec.dtype);
  const std::vector<LayerWork> formats = formats_of(spec, plain);
  add(shapes.linears, {spec.vocab, hidden, plain});
  for (size_t l = 0; l < spec.layers.size(); ++l) {
    const LayerSpec& layer = spec.layers[l];
    const AttentionSpec& a = layer.attention;
    if (!a.is_linear()) add(shapes.attentions, AttentionShape(a));
    for (const LinearShape& s : linears_of(a, hidden)) add(shapes.linears, {s.outputs, s.k, formats[l].attention});
    if (!layer.mlp.dense()) add(shapes.linears, {layer.mlp.num_experts, hidden, plain});
    add(shapes.mlps, {hidden, layer.mlp.width, layer.mlp.dense() ? formats[l].mlp : formats[l].experts});
    if (layer.mlp.shared_width > 0) add(shapes.mlps, {hidden, layer.mlp.shared_width, formats[l].mlp});
  }
  return shapes;
}

std::string ModelShapes::text() const {
  const auto format = [](const MatrixFormat& f) { return fmt::format("{}/{}", name_of(f.dtype), f.group); };
  std::string out = "mlps";
  for (const Mlp& m : mlps) out += fmt::format(" {}x{} {}", m.hidden, m.width, format(m.weights));
  out += " linears";
  for (const Linear& l : linears) out += fmt::format(" {}x{} {}", l.outputs, l.k, format(l.weights));
  out += " attentions";
  for (const AttentionShape& a : attentions) {
    out += fmt::format(" {}:{}x{}/{}/{}/{}", a.heads, a.kv_heads, a.head_dim, a.latent_dim, a.plain_dim, a.v_dim);
  }
  const LayerSpec& layer = spec.layers[0];
  return out + fmt::format(" hidden {} vocab {} experts {} of {} rope {} qk_norm {} bias {}", spec.hidden, spec.vocab, layer.mlp.top_k,
                           layer.mlp.num_experts, layer.attention.rope.dim, static_cast<int>(layer.attention.qk_norm), layer.attention.qkv_bias);
}

int64_t width_that_fits(int64_t hidden, int64_t width, uint64_t memory, DType weights) {
  const auto room = static_cast<int64_t>(memory / (3 * bytes_of(weights))) / hidden;
  return room < width ? std::max<int64_t>(32, room / 32 * 32) : width;
}

ModelSpec default_model() {
  LayerSpec layer;
  layer.attention.num_heads = 32;
  layer.attention.num_kv_heads = 4;
  layer.attention.head_dim = 128;
  layer.attention.qk_norm = AttentionSpec::QkNorm::per_head;
  layer.attention.scale = 1 / std::sqrt(128.0F);
  layer.attention.rope.dim = 128;
  layer.mlp.num_experts = 128;
  layer.mlp.top_k = 8;
  layer.mlp.width = 768;
  layer.mlp.router.renormalize = true;
  ModelSpec spec;
  spec.family = "qwen3_moe";
  spec.hidden = 2048;
  spec.vocab = 151936;
  spec.norm_eps = 1e-6F;
  spec.layers = {layer};
  return spec;
}

}  // namespace moegen
