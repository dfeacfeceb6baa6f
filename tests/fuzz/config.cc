// config.json: what can be read has shapes that can be computed with.
#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "spec/families.h"
#include "tests/fuzz/fuzz.h"

namespace moegen::testing {
namespace {

void check(const ModelSpec& spec) {
  require(spec.hidden > 0 && spec.vocab > 0 && spec.max_positions > 0, "a model has sizes");
  require(!spec.layers.empty(), "a model has layers");
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& a = layer.attention;
    if (!a.is_linear()) require(a.num_kv_heads > 0 && a.num_heads % a.num_kv_heads == 0 && a.head_dim > 0, "heads are in equal groups");
    if (a.is_linear()) require(a.delta.value_heads % a.delta.key_heads == 0, "value heads are in equal groups");
    require(layer.mlp.width > 0, "an MLP has a width");
    require(layer.mlp.dense() || (layer.mlp.top_k > 0 && layer.mlp.top_k <= layer.mlp.num_experts), "a token goes to some of the experts");
  }
  // Tables of a million experts are right, and slow.
  size_t experts = 0;
  for (const LayerSpec& layer : spec.layers) experts += static_cast<size_t>(std::max(layer.mlp.num_experts, 1));
  if (experts > 2000) return;
  for (const TensorSpec& tensor : tensor_table(spec)) {
    require(!tensor.shape.empty() && std::all_of(tensor.shape.begin(), tensor.shape.end(), [](int64_t d) { return d > 0; }), "a tensor has elements");
    require(elements_of(tensor) < uint64_t{1} << 62, "their number does not overflow");
  }
}

}  // namespace

void fuzz_one(std::string_view input) {
  try {
    check(read_spec(Config(parse_json(input, "config.json"), "config.json")));
  } catch (const Error& error) {
    require(error.code() == ErrorCode::corrupt || error.code() == ErrorCode::unsupported, "what is wrong is the file");
    require(std::string_view(error.what()).find("config.json") != std::string_view::npos, "an error names the file");
  }
}

}  // namespace moegen::testing
