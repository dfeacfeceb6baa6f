#include "spec/families.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"

namespace moegen {
namespace {

// Bounds that no real model comes near, so that products of a few of these stay far from 2^63.
constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxVocab = 1 << 24;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxExperts = 1 << 14;
constexpr int64_t kMaxPositions = int64_t{1} << 31;

[[noreturn]] void unsupported(const Config& c, const std::string& what) { throw_error(ErrorCode::unsupported, "{}: {} is not supported", c.where(), what); }

int to_int(int64_t x) { return static_cast<int>(x); }

void read_yarn(const Config& r, RopeSpec& rope) {
  rope.beta_fast = r.number("beta_fast", 1e-6, 1e6, 32);
  rope.beta_slow = r.number("beta_slow", 1e-6, 1e6, 1);
  rope.truncate = r.flag("truncate", true);
  const auto mscale = [&](double m) { return rope.factor <= 1 ? 1.0 : 0.1 * m * std::log(rope.factor) + 1; };
  rope.amplitude = mscale(1);
  if (r.has("mscale") && r.has("mscale_all_dim")) {
    rope.amplitude = mscale(r.number("mscale", 0, 1e3)) / mscale(r.number("mscale_all_dim", 0, 1e3));
  }
  rope.amplitude = r.number("attention_factor", 1e-6, 1e6, rope.amplitude);
}

// rope_theta + rope_scaling (transformers 4) or rope_parameters (5).
RopeSpec read_rope(const Config& c, int head_dim, double default_theta) {
  RopeSpec rope;
  const auto scaling = c.object(c.first_of({"rope_parameters", "rope_scaling"}));
  rope.theta = c.number("rope_theta", 1e-3, 1e15, default_theta);
  const double part = c.number("partial_rotary_factor", 1e-3, 1, 1);
  rope.dim = static_cast<int>(head_dim * part);
  if (!scaling) return rope;
  const Config& r = *scaling;
  rope.theta = r.number("rope_theta", 1e-3, 1e15, rope.theta);
  rope.dim = static_cast<int>(head_dim * r.number("partial_rotary_factor", 1e-3, 1, part));
  const std::string type = r.text(r.first_of({"rope_type", "type"}), "default");
  if (type == "default") return rope;
  rope.factor = r.number("factor", 1e-6, 1e6);
  if (type == "linear") {
    rope.scaling = RopeSpec::Scaling::linear;
    return rope;
  }
  const double positions = c.number("max_position_embeddings", 1, static_cast<double>(kMaxPositions));
  rope.original_len = r.number("original_max_position_embeddings", 1, static_cast<double>(kMaxPositions), positions);
  if (type == "llama3") {
    rope.scaling = RopeSpec::Scaling::llama3;
    rope.low_freq_factor = r.number("low_freq_factor", 1e-6, 1e6);
    rope.high_freq_factor = r.number("high_freq_factor", 1e-6, 1e6);
  } else if (type == "yarn") {
    rope.scaling = RopeSpec::Scaling::yarn;
    read_yarn(r, rope);
  } else {
    unsupported(r, "rope type \"" + type + "\"");
  }
  return rope;
}

// The sliding window of layer i: layer_types says (newer configs), else use_sliding_window and max_window_layers.
int window_of(const Config& c, int layer, bool on_by_default) {
  if (!c.has("sliding_window") || !c.flag("use_sliding_window", on_by_default)) return 0;
  const auto window = to_int(c.integer("sliding_window", 1, kMaxPositions - 1));
  if (const auto types = c.texts("layer_types"); !types.empty()) {
    if (static_cast<size_t>(layer) >= types.size()) throw_error(ErrorCode::corrupt, "{}: layer_types has {} entries, fewer than layers", c.where(), types.size());
    return types[static_cast<size_t>(layer)] == "sliding_attention" ? window : 0;
  }
  return layer >= c.integer("max_window_layers", 0, kMaxLayers, 0) ? window : 0;
}

AttentionSpec read_attention(const Config& c, int hidden, double default_theta) {
  AttentionSpec a;
  a.num_heads = to_int(c.integer("num_attention_heads", 1, kMaxWidth));
  a.num_kv_heads = to_int(c.integer("num_key_value_heads", 1, kMaxWidth, a.num_heads));
  a.head_dim = to_int(c.integer("head_dim", 2, 4096, std::max(1, hidden / a.num_heads)));
  if (a.num_heads % a.num_kv_heads != 0) {
    throw_error(ErrorCode::corrupt, "{}: num_attention_heads {} is no multiple of num_key_value_heads {}", c.where(), a.num_heads, a.num_kv_heads);
  }
  if (int64_t{a.num_heads} * a.head_dim > kMaxWidth) throw_error(ErrorCode::corrupt, "{}: {} heads of {} are too wide", c.where(), a.num_heads, a.head_dim);
  a.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(a.head_dim)));
  a.rope = read_rope(c, a.head_dim, default_theta);
  if (a.rope.dim < 2 || a.rope.dim % 2 != 0) throw_error(ErrorCode::corrupt, "{}: a rotated width of {} is not even", c.where(), a.rope.dim);
  return a;
}

// The parts that all families share; each layer gets the same attention and a dense MLP.
ModelSpec read_common(const Config& c, double default_theta) {
  ModelSpec s;
  s.hidden = to_int(c.integer("hidden_size", 1, kMaxWidth));
  s.vocab = to_int(c.integer("vocab_size", 1, kMaxVocab));
  s.norm_eps = static_cast<float>(c.number("rms_norm_eps", 0, 1, 1e-6));
  s.tied_embeddings = c.flag("tie_word_embeddings", false);
  s.max_positions = c.integer("max_position_embeddings", 1, kMaxPositions, 2048);
  const std::string dtype = c.text(c.first_of({"dtype", "torch_dtype"}), "bfloat16");
  s.dtype = dtype == "float32" ? DType::f32 : dtype == "float16" ? DType::f16 : DType::bf16;
  for (const int64_t id : c.integers("eos_token_id", 0, kMaxVocab)) s.eos_ids.push_back(static_cast<int32_t>(id));
  if (const std::string act = c.text("hidden_act", "silu"); act != "silu") unsupported(c, "hidden_act \"" + act + "\"");
  if (c.has("quantization_config")) unsupported(c, "quantization_config (quant_method \"" + c.object("quantization_config")->text("quant_method", "?") + "\")");
  if (c.flag("mlp_bias", false)) unsupported(c, "mlp_bias");
  LayerSpec layer;
  layer.attention = read_attention(c, s.hidden, default_theta);
  const RopeSpec& rope = layer.attention.rope;
  if (rope.scaling == RopeSpec::Scaling::yarn) s.max_positions = std::max(s.max_positions, static_cast<int64_t>(rope.original_len * rope.factor));
  layer.mlp.width = to_int(c.integer("intermediate_size", 1, kMaxWidth));
  s.layers.assign(static_cast<size_t>(c.integer("num_hidden_layers", 1, kMaxLayers)), layer);
  return s;
}

MlpSpec read_experts(const Config& c, std::string_view count_field, std::string_view width_field, bool renormalize) {
  MlpSpec m;
  m.num_experts = to_int(c.integer(count_field, 1, kMaxExperts));
  m.top_k = to_int(c.integer("num_experts_per_tok", 1, m.num_experts));
  m.width = to_int(c.integer(width_field, 1, kMaxWidth));
  m.renormalize = renormalize;
  return m;
}

// Qwen: layer i has experts unless listed in mlp_only_layers or passed over by decoder_sparse_step.
void set_sparse_layers(const Config& c, ModelSpec& s, const MlpSpec& experts) {
  const auto dense = c.integers("mlp_only_layers", 0, kMaxLayers);
  const int64_t step = c.integer("decoder_sparse_step", 1, kMaxLayers, 1);
  for (size_t i = 0; i < s.layers.size(); ++i) {
    const bool listed = std::find(dense.begin(), dense.end(), static_cast<int64_t>(i)) != dense.end();
    if (!listed && (static_cast<int64_t>(i) + 1) % step == 0) s.layers[i].mlp = experts;
  }
}

void each_attention(ModelSpec& s, const auto& change) {
  for (size_t i = 0; i < s.layers.size(); ++i) change(s.layers[i].attention, to_int(static_cast<int64_t>(i)));
}

void read_llama(const Config& c, ModelSpec& s) {
  each_attention(s, [&](AttentionSpec& a, int) { a.qkv_bias = a.o_bias = c.flag("attention_bias", false); });
}

void read_mistral(const Config& c, ModelSpec& s) {
  each_attention(s, [&](AttentionSpec& a, int i) { a.window = window_of(c, i, true); });
}

void read_qwen3(const Config& c, ModelSpec& s) {
  each_attention(s, [&](AttentionSpec& a, int i) {
    a.qkv_bias = a.o_bias = c.flag("attention_bias", false);
    a.qk_norm = AttentionSpec::QkNorm::per_head;
    a.window = window_of(c, i, false);
  });
}

void read_qwen3_moe(const Config& c, ModelSpec& s) {
  read_qwen3(c, s);
  set_sparse_layers(c, s, read_experts(c, c.first_of({"num_experts", "num_local_experts"}), "moe_intermediate_size", c.flag("norm_topk_prob", false)));
}

void read_qwen2_moe(const Config& c, ModelSpec& s) {
  each_attention(s, [&](AttentionSpec& a, int i) {
    a.qkv_bias = c.flag("qkv_bias", true);
    a.window = window_of(c, i, false);
  });
  MlpSpec experts = read_experts(c, c.first_of({"num_experts", "num_local_experts"}), "moe_intermediate_size", c.flag("norm_topk_prob", false));
  experts.shared_width = to_int(c.integer("shared_expert_intermediate_size", 1, kMaxWidth));
  set_sparse_layers(c, s, experts);
}

void read_mixtral(const Config& c, ModelSpec& s) {
  read_mistral(c, s);
  const MlpSpec experts = read_experts(c, c.first_of({"num_local_experts", "num_experts"}), "intermediate_size", true);
  for (LayerSpec& layer : s.layers) layer.mlp = experts;
}

void read_olmoe(const Config& c, ModelSpec& s) {
  each_attention(s, [&](AttentionSpec& a, int) {
    a.qkv_bias = a.o_bias = c.flag("attention_bias", false);
    a.qk_norm = AttentionSpec::QkNorm::whole;
    a.clip_qkv = static_cast<float>(c.number("clip_qkv", 0, 1e6, 0));
  });
  const MlpSpec experts = read_experts(c, c.first_of({"num_experts", "num_local_experts"}), "intermediate_size", c.flag("norm_topk_prob", false));
  for (LayerSpec& layer : s.layers) layer.mlp = experts;
}

constexpr std::array kMixtralNames{
    TensorName{Role::router, false, "model.layers.{L}.block_sparse_moe.gate.weight"},
    TensorName{Role::gate, true, "model.layers.{L}.block_sparse_moe.experts.{E}.w1.weight"},
    TensorName{Role::up, true, "model.layers.{L}.block_sparse_moe.experts.{E}.w3.weight"},
    TensorName{Role::down, true, "model.layers.{L}.block_sparse_moe.experts.{E}.w2.weight"},
};

constexpr std::array kFamilies{
    Family{"llama", "LlamaForCausalLM", 1e4, read_llama, {}},
    Family{"mistral", "MistralForCausalLM", 1e4, read_mistral, {}},
    Family{"qwen3", "Qwen3ForCausalLM", 1e4, read_qwen3, {}},
    Family{"mixtral", "MixtralForCausalLM", 1e6, read_mixtral, kMixtralNames},
    Family{"qwen2_moe", "Qwen2MoeForCausalLM", 1e4, read_qwen2_moe, {}},
    Family{"qwen3_moe", "Qwen3MoeForCausalLM", 1e4, read_qwen3_moe, {}},
    Family{"olmoe", "OlmoeForCausalLM", 1e4, read_olmoe, {}},
};

}  // namespace

std::span<const Family> families() { return kFamilies; }

const Family& find_family(const Config& config) {
  const auto architectures = config.texts("architectures");
  const std::string type = config.text("model_type", "");
  for (const Family& family : kFamilies) {
    if (architectures.empty() ? family.model_type == type : family.architecture == architectures[0]) return family;
  }
  std::string known;
  for (const Family& family : kFamilies) known += (known.empty() ? "" : ", ") + std::string(family.architecture);
  throw_error(ErrorCode::unsupported, "{}: architecture \"{}\" is not supported by this version (it has {})", config.where(),
              architectures.empty() ? type : architectures[0], known);
}

ModelSpec read_spec(const Config& config) {
  const Family& family = find_family(config);
  ModelSpec spec = read_common(config, family.default_rope_theta);
  spec.family = family.model_type;
  family.read(config, spec);
  return spec;
}

}  // namespace moegen
