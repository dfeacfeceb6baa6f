#include "spec/families.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "spec/common_fields.h"
#include "spec/defaults.h"

namespace moegen {
namespace {

int64_t read_qwen_window(const Config& c) { return c.flag("use_sliding_window", false) ? read_window(c) : 0; }

// One window for all layers, as transformers has it in these families whatever layer_types says; others do as that says.
void set_one_window(const Config& c, ModelSpec& s, int64_t window) {
  const std::vector<std::string> types = c.texts("layer_types");
  if (window > 0 && std::count(types.begin(), types.end(), "full_attention") > 0) unsupported(c, "layer_types");
  set_windows(c, s, window, kEveryLayer);
}

// Qwen: layer i has experts unless listed in mlp_only_layers or passed over by decoder_sparse_step.
void set_sparse_layers(const Config& c, ModelSpec& s, const MlpSpec& experts) {
  const auto listed = c.integers("mlp_only_layers", 0, kMaxLayers);
  const std::set<int64_t> dense(listed.begin(), listed.end());
  const int64_t step = c.integer("decoder_sparse_step", 1, kMaxLayers, 1);
  for (size_t i = 0; i < s.layers.size(); ++i) {
    const auto layer = static_cast<int64_t>(i);
    if (!dense.contains(layer) && (layer + 1) % step == 0) s.layers[i].mlp = experts;
  }
}

void read_llama(const Config& c, ModelSpec& s) {
  each_attention(s, [bias = c.flag("attention_bias", false)](AttentionSpec& a) { a.qkv_bias = a.o_bias = bias; });
}

void read_mistral(const Config& c, ModelSpec& s) { set_one_window(c, s, read_window(c)); }

void read_qwen3_attention(const Config& c, ModelSpec& s) {
  read_llama(c, s);
  each_attention(s, [](AttentionSpec& a) { a.qk_norm = AttentionSpec::QkNorm::per_head; });
}

void read_qwen3(const Config& c, ModelSpec& s) {
  read_qwen3_attention(c, s);
  set_windows(c, s, read_qwen_window(c), [first = c.integer("max_window_layers", 0, kMaxLayers, 28)](int64_t i) { return i >= first; });
}

void read_qwen3_moe(const Config& c, ModelSpec& s) {
  read_qwen3_attention(c, s);
  set_one_window(c, s, read_qwen_window(c));
  set_sparse_layers(c, s,
                    read_experts(c, c.first_of({"num_experts", "num_local_experts"}), "moe_intermediate_size", c.flag("norm_topk_prob", false)));
}

void read_qwen2_moe(const Config& c, ModelSpec& s) {
  each_attention(s, [bias = c.flag("qkv_bias", true)](AttentionSpec& a) { a.qkv_bias = bias; });
  const int64_t end = c.integer("max_window_layers", 0, kMaxLayers, 28);
  set_windows(c, s, read_qwen_window(c), [&](int64_t i) { return i % 2 == 0 && i < end; });
  MlpSpec experts = read_experts(c, c.first_of({"num_experts", "num_local_experts"}), "moe_intermediate_size", c.flag("norm_topk_prob", false));
  experts.shared_width = to_int(c.integer("shared_expert_intermediate_size", 1, kMaxWidth));
  experts.shared_gate = true;
  set_sparse_layers(c, s, experts);
}

void read_mixtral(const Config& c, ModelSpec& s) {
  set_one_window(c, s, read_window(c));
  const MlpSpec experts = read_experts(c, c.first_of({"num_local_experts", "num_experts"}), "intermediate_size", true);
  for (LayerSpec& layer : s.layers) layer.mlp = experts;
}

void read_olmoe(const Config& c, ModelSpec& s) {
  read_llama(c, s);
  const auto clip = static_cast<float>(c.number("clip_qkv", 0, 1e6, 0));
  if (clip == 0 && c.has("clip_qkv")) unsupported(c, "clip_qkv 0");
  each_attention(s, [clip](AttentionSpec& a) {
    a.qk_norm = AttentionSpec::QkNorm::whole;
    a.clip_qkv = clip;
  });
  const MlpSpec experts = read_experts(c, c.first_of({"num_experts", "num_local_experts"}), "intermediate_size", c.flag("norm_topk_prob", false));
  for (LayerSpec& layer : s.layers) layer.mlp = experts;
}

// One for each layer, or none.
std::vector<std::string> read_layer_types(const Config& c, const ModelSpec& s) {
  std::vector<std::string> types = c.texts("layer_types");
  if (!types.empty() && types.size() != s.layers.size())
    throw_error(ErrorCode::corrupt, "{}: layer_types has {} entries for {} layers", c.where(), types.size(), s.layers.size());
  return types;
}

// Every n-th layer has attention with a gate, the others are linear.
void read_qwen3_next_attention(const Config& c, ModelSpec& s, bool grouped) {
  constexpr int64_t kMaxDim = 4096;
  if (c.flag("attention_bias", false)) unsupported(c, "attention_bias");
  s.norm_offset = 1;
  const std::vector<std::string> types = read_layer_types(c, s);
  DeltaSpec d;
  d.key_heads = to_int(c.integer("linear_num_key_heads", 1, kMaxWidth));
  d.value_heads = to_int(c.integer("linear_num_value_heads", 1, kMaxWidth));
  d.key_dim = to_int(c.integer("linear_key_head_dim", 1, kMaxDim));
  d.value_dim = to_int(c.integer("linear_value_head_dim", 1, kMaxDim));
  d.taps = to_int(c.integer("linear_conv_kernel_dim", 1, 64));
  d.grouped = grouped;
  if (d.value_heads % d.key_heads != 0)
    throw_error(ErrorCode::corrupt, "{}: linear_num_value_heads {} is no multiple of linear_num_key_heads {}", c.where(), d.value_heads, d.key_heads);
  if (int64_t{d.value_heads} * std::max(d.key_dim, d.value_dim) > kMaxWidth)
    throw_error(ErrorCode::corrupt, "{}: {} linear heads of {} are too wide", c.where(), d.value_heads, std::max(d.key_dim, d.value_dim));
  const int64_t interval = c.integer("full_attention_interval", 1, kMaxLayers, 4);
  for (size_t i = 0; i < s.layers.size(); ++i) {
    AttentionSpec& a = s.layers[i].attention;
    const std::string type = !types.empty() ? types[i] : (static_cast<int64_t>(i) + 1) % interval != 0 ? "linear_attention" : "full_attention";
    if (type == "linear_attention") {
      a = {};
      a.num_heads = d.value_heads;
      a.head_dim = d.value_dim;
      a.delta = d;
    } else if (type == "full_attention") {
      a.qk_norm = AttentionSpec::QkNorm::per_head;
      a.output_gate = true;
    } else {
      unsupported(c, "layer type \"" + type + "\"");
    }
  }
}

MlpSpec read_qwen3_next_experts(const Config& c, bool renormalize) {
  MlpSpec experts = read_experts(c, c.first_of({"num_experts", "num_local_experts"}), "moe_intermediate_size", renormalize);
  experts.shared_width = to_int(c.integer("shared_expert_intermediate_size", 0, kMaxWidth, 0));
  experts.shared_gate = experts.shared_width > 0;
  return experts;
}

void read_qwen3_next(const Config& c, ModelSpec& s) {
  read_qwen3_next_attention(c, s, true);
  set_sparse_layers(c, s, read_qwen3_next_experts(c, c.flag("norm_topk_prob", true)));
}

void read_qwen3_5_moe(const Config& c, ModelSpec& s) {
  if (!c.flag("attn_output_gate", true)) unsupported(c, "attn_output_gate false");
  // transformers ignores these
  if (c.integer("decoder_sparse_step", 0, kMaxLayers, 1) != 1) unsupported(c, "decoder_sparse_step");
  if (!c.integers("mlp_only_layers", 0, kMaxLayers).empty()) unsupported(c, "mlp_only_layers");
  read_qwen3_next_attention(c, s, false);
  const MlpSpec experts = read_qwen3_next_experts(c, true);
  for (LayerSpec& layer : s.layers) layer.mlp = experts;
}

// Experts as DeepSeek-V3 has them: sigmoid scores, a correction bias, groups, shared experts, the first layers dense.
MlpSpec read_deepseek_experts(const Config& c, bool renormalize) {
  MlpSpec m = read_experts(c, "n_routed_experts", "moe_intermediate_size", c.flag("norm_topk_prob", renormalize));
  m.shared_width = to_int(c.integer("n_shared_experts", 0, kMaxWidth, 0) * m.width);
  m.router.scores = RouterSpec::Scores::sigmoid;
  m.router.correction_bias = true;
  m.router.group_best = 2;
  m.router.scaling = static_cast<float>(c.number("routed_scaling_factor", 1e-6, 1e6, 1));
  return m;
}

void read_groups(const Config& c, MlpSpec& m) {
  m.router.num_groups = to_int(c.integer("n_group", 1, RouterSpec::kMaxGroups, 1));
  m.router.top_groups = to_int(c.integer("topk_group", 1, m.router.num_groups, m.router.num_groups));
  if (m.num_experts % m.router.num_groups != 0) {
    throw_error(ErrorCode::corrupt, "{}: n_routed_experts {} is no multiple of n_group {}", c.where(), m.num_experts, m.router.num_groups);
  }
  const int size = m.num_experts / m.router.num_groups;
  if (m.top_k > m.router.top_groups * size || size < m.router.group_best) {
    throw_error(ErrorCode::corrupt, "{}: {} groups of {} experts are too few to choose {} experts from", c.where(), m.router.top_groups, size,
                m.top_k);
  }
}

void set_experts_from(const Config& c, ModelSpec& s, const MlpSpec& experts, int64_t first) {
  if (c.integer("moe_layer_freq", 0, kMaxLayers, 1) != 1) unsupported(c, "moe_layer_freq");
  first = c.integer("first_k_dense_replace", 0, kMaxLayers, first);
  for (size_t i = static_cast<size_t>(first); i < s.layers.size(); ++i) s.layers[i].mlp = experts;
}

void read_deepseek_v2(const Config& c, ModelSpec& s) {
  if (c.flag("attention_bias", false)) unsupported(c, "attention_bias");
  if (!c.flag("rope_interleave", true)) unsupported(c, "rope_interleave false");  // transformers ignores it
  MlpSpec experts = read_deepseek_experts(c, false);
  if (const std::string scores = c.text("scoring_func", "softmax"); scores != "softmax") unsupported(c, "scoring_func \"" + scores + "\"");
  if (experts.router.renormalize) unsupported(c, "norm_topk_prob");  // transformers ignores it, the model's own code does not
  experts.router.scores = RouterSpec::Scores::softmax;
  experts.router.correction_bias = false;
  experts.router.group_best = 1;
  const std::string method = c.text("topk_method", "greedy");
  if (method == "group_limited_greedy") {
    read_groups(c, experts);
  } else if (method != "greedy") {
    unsupported(c, "topk_method \"" + method + "\"");
  }
  set_experts_from(c, s, experts, 0);
}

void read_deepseek_v3(const Config& c, ModelSpec& s) {
  if (c.flag("attention_bias", false)) unsupported(c, "attention_bias");
  if (const std::string scores = c.text("scoring_func", "sigmoid"); scores != "sigmoid") unsupported(c, "scoring_func \"" + scores + "\"");
  MlpSpec experts = read_deepseek_experts(c, true);
  read_groups(c, experts);
  set_experts_from(c, s, experts, 3);
}

void read_dots1(const Config& c, ModelSpec& s) {
  read_qwen3_attention(c, s);
  set_windows(c, s, read_window(c), [end = c.integer("max_window_layers", 0, kMaxLayers, 62)](int64_t i) { return i >= end; });
  MlpSpec experts = read_deepseek_experts(c, false);
  read_groups(c, experts);
  set_experts_from(c, s, experts, 0);
}

void read_glm4_moe(const Config& c, ModelSpec& s) {
  const bool norm = c.flag("use_qk_norm", false);
  each_attention(s, [&, bias = c.flag("attention_bias", false)](AttentionSpec& a) {
    a.qkv_bias = bias;
    if (norm) a.qk_norm = AttentionSpec::QkNorm::per_head;
  });
  MlpSpec experts = read_deepseek_experts(c, true);
  read_groups(c, experts);
  set_experts_from(c, s, experts, 1);
}

void read_minimax_m2(const Config& c, ModelSpec& s) {
  if (const std::string scores = c.text("scoring_func", "sigmoid"); scores != "sigmoid") unsupported(c, "scoring_func \"" + scores + "\"");
  if (!c.flag("use_routing_bias", true)) unsupported(c, "use_routing_bias false");
  if (c.integer("shared_intermediate_size", 0, kMaxWidth, 0) != 0) unsupported(c, "shared_intermediate_size");
  if (c.flag("use_qk_norm", true)) each_attention(s, [](AttentionSpec& a) { a.qk_norm = AttentionSpec::QkNorm::whole; });
  MlpSpec experts = read_experts(c, c.first_of({"num_local_experts", "num_experts"}), "intermediate_size", true);
  experts.router.scores = RouterSpec::Scores::sigmoid;
  experts.router.correction_bias = true;
  for (LayerSpec& layer : s.layers) layer.mlp = experts;
}

void read_ernie4_5_moe(const Config& c, ModelSpec& s) {
  if (c.flag("use_bias", false)) unsupported(c, "use_bias");
  if (c.number("moe_norm_min", 0, 1, 1e-12) > 1e-6) unsupported(c, "moe_norm_min");
  each_attention(s, [](AttentionSpec& a) { a.rope.interleaved = true; });
  const auto count = [&](std::string_view name, int64_t otherwise) { return c.integer(name, 0, kMaxExperts, otherwise); };
  MlpSpec experts;
  experts.num_experts = to_int(c.integer("moe_num_experts", 1, kMaxExperts));
  experts.top_k = to_int(c.integer("moe_k", 1, experts.num_experts));
  experts.width = to_int(c.integer("moe_intermediate_size", 1, kMaxWidth));
  experts.shared_width = to_int(count("moe_num_shared_experts", 0) * experts.width);
  experts.router.correction_bias = true;
  experts.router.renormalize = true;
  const int64_t interval = c.integer("moe_layer_interval", 1, kMaxLayers, 1);
  const int64_t begin = c.integer("moe_layer_start_index", 0, kMaxLayers, 1);
  const int64_t last = c.integer("moe_layer_end_index", -1, kMaxLayers, -1);
  for (size_t i = 0; i < s.layers.size(); ++i) {
    const auto layer = static_cast<int64_t>(i);
    if ((layer + 1) % interval == 0 && layer >= begin && (last < 0 || layer <= last)) s.layers[i].mlp = experts;
  }
}

void read_gpt_oss(const Config& c, ModelSpec& s) {
  each_attention(s, [bias = c.flag("attention_bias", true)](AttentionSpec& a) {
    a.qkv_bias = a.o_bias = bias;
    a.sinks = true;
  });
  set_windows(c, s, read_window(c), [](int64_t i) { return i % 2 == 0; });
  MlpSpec experts = read_experts(c, c.first_of({"num_local_experts", "num_experts"}), "intermediate_size", true);
  experts.router.logit_bias = true;
  experts.activation = MlpSpec::Activation::clamped_silu;
  experts.clamp = static_cast<float>(c.number("swiglu_limit", 1e-3, 1e6, 7));
  if (c.number("swiglu_alpha", 0, 1e3, 1.702) != 1.702) unsupported(c, "swiglu_alpha");
  experts.bias = true;
  experts.interleaved = true;
  for (LayerSpec& layer : s.layers) layer.mlp = experts;
}

void read_granitemoe(const Config& c, ModelSpec& s) {
  read_llama(c, s);
  const auto factor = [&](std::string_view name) { return c.number(name, 1e-6, 1e6, 1); };
  each_attention(s, [&](AttentionSpec& a) { a.scale = static_cast<float>(factor("attention_multiplier")); });
  s.embedding_scale = static_cast<float>(factor("embedding_multiplier"));
  s.residual_scale = static_cast<float>(factor("residual_multiplier"));
  s.logit_scale = static_cast<float>(1 / factor("logits_scaling"));
  const MlpSpec experts = read_experts(c, c.first_of({"num_local_experts", "num_experts"}), "intermediate_size", true);
  for (LayerSpec& layer : s.layers) layer.mlp = experts;
}

// A number for all layers, or one for each.
int64_t of_layer(const Config& c, const ModelSpec& s, std::string_view field, int64_t high, size_t layer) {
  const std::vector<int64_t> values = c.integers(field, 1, high);
  if (values.size() == 1) return values[0];
  if (values.size() != s.layers.size())
    throw_error(ErrorCode::corrupt, "{}: {} has {} entries for {} layers", c.where(), field, values.size(), s.layers.size());
  return values[layer];
}

void read_hunyuan_v1_moe(const Config& c, ModelSpec& s) {
  read_llama(c, s);
  for (const std::string_view field : {"use_cla", "use_mla"}) {
    if (c.flag(field, false)) unsupported(c, std::string(field));
  }
  if (c.integer("moe_layer_num_skipped", 0, kMaxLayers, 0) != 0) unsupported(c, "moe_layer_num_skipped");
  each_attention(s, [norm = c.flag("use_qk_norm", true)](AttentionSpec& a) {
    if (norm) a.qk_norm = AttentionSpec::QkNorm::per_head;
    a.rope_first = true;
  });
  for (size_t i = 0; i < s.layers.size(); ++i) {
    MlpSpec m;
    m.width = to_int(c.integer("intermediate_size", 1, kMaxWidth));
    m.shared_width = m.width;
    m.num_experts = to_int(of_layer(c, s, "num_experts", kMaxExperts, i));
    m.top_k = to_int(of_layer(c, s, "moe_topk", m.num_experts, i));
    m.router.renormalize = true;
    // transformers ignores these, other programs do not.
    if (c.has("moe_intermediate_size") && of_layer(c, s, "moe_intermediate_size", kMaxWidth, i) != m.width) unsupported(c, "moe_intermediate_size");
    if (c.has("num_shared_expert") && of_layer(c, s, "num_shared_expert", kMaxExperts, i) != 1) unsupported(c, "num_shared_expert");
    s.layers[i].mlp = m;
  }
}

void read_phimoe(const Config& c, ModelSpec& s) {
  read_llama(c, s);
  set_one_window(c, s, read_window(c));
  const RopeSpec::Scaling scaling = s.layers[0].attention.rope.scaling;
  if (scaling != RopeSpec::Scaling::none && scaling != RopeSpec::Scaling::longrope) unsupported(c, "a rope type other than longrope");
  s.layer_norm = true;
  s.head_bias = c.flag("lm_head_bias", false);
  MlpSpec experts = read_experts(c, c.first_of({"num_local_experts", "num_experts"}), "intermediate_size", false);
  if (experts.top_k != 2) unsupported(c, "num_experts_per_tok that is not 2");
  experts.router.scores = RouterSpec::Scores::sparse_mixer;
  experts.router.jitter = static_cast<float>(c.number("router_jitter_noise", 0, 1e3, 0.01));
  for (LayerSpec& layer : s.layers) layer.mlp = experts;
}

void read_opt(const Config& c, ModelSpec& s) {
  for (const std::string_view field : {"do_layer_norm_before", "enable_bias", "layer_norm_elementwise_affine"}) {
    if (!c.flag(field, true)) unsupported(c, std::string(field) + " false");
  }
  if (c.flag("_remove_final_layer_norm", false)) unsupported(c, "_remove_final_layer_norm");
  if (c.integer("word_embed_proj_dim", 1, kMaxWidth, s.hidden) != s.hidden) unsupported(c, "word_embed_proj_dim");
  if (const std::string act = c.text("activation_function", "relu"); act != "relu") unsupported(c, "activation_function \"" + act + "\"");
  s.tied_embeddings = c.flag("tie_word_embeddings", true);
  s.norm_eps = 1e-5F;  // config.json has no field for it
  s.layer_norm = true;
  s.first_position = 2;
  s.positions = s.max_positions + s.first_position;
  MlpSpec mlp;
  mlp.width = to_int(c.integer("ffn_dim", 1, kMaxWidth));
  mlp.activation = MlpSpec::Activation::relu;
  mlp.bias = true;
  for (LayerSpec& layer : s.layers) {
    layer.mlp = mlp;
    layer.attention.qkv_bias = layer.attention.o_bias = true;
    layer.attention.rope = {};
  }
}

void read_llama4(const Config& c, ModelSpec& s) {
  read_llama(c, s);
  const bool norm = c.flag("use_qk_norm", true);
  const bool tunes = c.truth("attn_temperature_tuning", true);  // 4 in published checkpoints
  const int64_t chunk = c.mentions("attention_chunk_size") ? c.integer("attention_chunk_size", 1, kMaxPositions - 1, 0) : 8192;
  const int64_t interval = c.integer("no_rope_layer_interval", 1, kMaxLayers, 4);
  const std::vector<int64_t> turned = c.integers("no_rope_layers", 0, 1);
  const std::vector<int64_t> listed = c.integers("moe_layers", 0, kMaxLayers);
  const int64_t step = c.integer("interleave_moe_layer_step", 1, kMaxLayers, 1);
  const std::vector<std::string> types = read_layer_types(c, s);
  if (!turned.empty() && turned.size() != s.layers.size())
    throw_error(ErrorCode::corrupt, "{}: no_rope_layers has {} entries for {} layers", c.where(), turned.size(), s.layers.size());
  MlpSpec experts = read_experts(c, c.first_of({"num_local_experts", "num_experts"}), "intermediate_size", false);
  experts.shared_width = experts.width;
  experts.router.scores = RouterSpec::Scores::sigmoid;
  experts.router.weighs_input = true;
  for (size_t i = 0; i < s.layers.size(); ++i) {
    const auto layer = static_cast<int64_t>(i);
    AttentionSpec& a = s.layers[i].attention;
    const bool turns = turned.empty() ? (layer + 1) % interval != 0 : turned[i] != 0;
    const std::string_view type = !types.empty() ? std::string_view(types[i]) : turns ? "chunked_attention" : "full_attention";
    if (type != "chunked_attention" && type != "full_attention") unsupported(c, fmt::format("layer_types \"{}\"", type));
    if (type == "chunked_attention") a.chunk = to_int(chunk);
    if (turns) {
      a.rope.interleaved = true;
      a.rope_first = true;
      if (norm) a.qk_norm = AttentionSpec::QkNorm::plain;
    } else {
      a.rope = {};
      a.tuning = tunes ? static_cast<float>(c.number("attn_scale", 0, 1e3, 0.1)) : 0;
      a.tuning_step = static_cast<float>(c.number("floor_scale", 1, 1e9, 8192));
    }
    const bool sparse = !c.has("moe_layers") ? (layer + 1) % step == 0 : std::find(listed.begin(), listed.end(), layer) != listed.end();
    s.layers[i].mlp.width = to_int(c.integer("intermediate_size_mlp", 1, kMaxWidth, 16384));
    if (sparse) s.layers[i].mlp = experts;
  }
}

// What transformers 5 writes of a layer that differs from the others, under its number with leading zeros.
Config layer_config(const Config& c, const Config& layers, size_t layer) {
  for (int digits = 1; digits <= 4; ++digits) {
    if (const auto own = layers.object(fmt::format("{:0{}}", layer, digits))) return *own;
  }
  return c;
}

// Only what makes them wider may differ.
void check_own_fields(const Config& layers) {
  for (const std::string& layer : layers.fields()) {
    for (const std::string& field : layers.object(layer)->fields()) {
      if (field != "head_dim" && field != "num_key_value_heads") unsupported(layers, fmt::format("per_layer_config \"{}\": {}", layer, field));
    }
  }
}

// Layers that see all are wider, and have keys for values.
void read_gemma4_attention(const Config& c, ModelSpec& s) {
  each_attention(s, [](AttentionSpec& a) {
    a.qk_norm = AttentionSpec::QkNorm::per_head;
    a.v_norm = true;
    a.scale = 1;
  });
  set_windows(c, s, read_window(c), [](int64_t i) { return (i + 1) % 6 != 0; });
  s.layers.back().attention.window = 0;  // whatever layer_types says
  const Config none(nlohmann::json::object(), c.where());
  const Config ropes = c.object("rope_parameters").value_or(none);
  const Config global = ropes.object("full_attention").value_or(none);
  if (ropes.object("sliding_attention").value_or(none).number("partial_rotary_factor", 0, 1, 1) != 1) unsupported(c, "partial_rotary_factor");
  const bool keys_are_values = c.flag("attention_k_eq_v", false);
  const std::optional<Config> layers = c.object("per_layer_config");
  if (layers) check_own_fields(*layers);
  for (size_t i = 0; i < s.layers.size(); ++i) {
    AttentionSpec& a = s.layers[i].attention;
    if (a.window > 0) continue;
    const Config own = layers ? layer_config(c, *layers, i) : c;
    a.head_dim = to_int(own.integer(layers ? "head_dim" : "global_head_dim", 2, 4096, 512));
    const std::string_view kv_heads = layers ? "num_key_value_heads" : "num_global_key_value_heads";
    if (keys_are_values) a.num_kv_heads = to_int(own.integer(kv_heads, 1, a.num_heads, a.num_kv_heads));
    a.k_is_v = keys_are_values;
    if (a.num_heads % a.num_kv_heads != 0 || int64_t{a.num_heads} * a.head_dim > kMaxWidth) {
      throw_error(ErrorCode::corrupt,
                  "{}: {} heads of {} with {} of keys are not possible (num_attention_heads, global_head_dim, num_global_key_value_heads)", c.where(),
                  a.num_heads, a.head_dim, a.num_kv_heads);
    }
    a.rope = {};
    a.rope.dim = a.head_dim;
    a.rope.theta = global.number("rope_theta", 2, 1e15, 1e6);
    const std::string type = global.text("rope_type", "proportional");
    if (type != "proportional") unsupported(c, "rope type \"" + type + "\" of full_attention");
    a.rope.scaling = RopeSpec::Scaling::proportional;
    a.rope.factor = global.number("factor", 1e-6, 1e6, 1);
    a.rope.pairs = to_int(static_cast<int64_t>(global.number("partial_rotary_factor", 0, 1, 1) * a.head_dim / 2));
    check_rope(c, a.rope);
  }
}

void read_gemma4(const Config& c, ModelSpec& s) {
  if (c.flag("attention_bias", false)) unsupported(c, "attention_bias");
  if (!c.flag("enable_moe_block", false)) unsupported(c, "enable_moe_block false");
  for (const std::string_view field : {"hidden_size_per_layer_input", "num_kv_shared_layers"}) {
    if (c.integer(field, 0, kMaxWidth, 0) != 0) unsupported(c, std::string(field));
  }
  if (c.text("use_bidirectional_attention", "vision") != "vision") unsupported(c, "use_bidirectional_attention");
  if (const std::string act = c.text("hidden_activation", "gelu_pytorch_tanh"); act != "gelu_pytorch_tanh")
    unsupported(c, "hidden_activation \"" + act + "\"");
  read_gemma4_attention(c, s);
  s.tied_embeddings = c.flag("tie_word_embeddings", true);
  s.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(s.hidden)));
  s.embedding_scale_rounded = true;
  s.logit_cap = static_cast<float>(c.number("final_logit_softcapping", 1e-3, 1e6, 0));
  MlpSpec m;
  m.num_experts = to_int(c.integer("num_experts", 1, kMaxExperts));
  m.top_k = to_int(c.integer("top_k_experts", 1, m.num_experts));
  m.width = to_int(c.integer("moe_intermediate_size", 1, kMaxWidth));
  m.shared_width = to_int(c.integer("intermediate_size", 1, kMaxWidth));
  m.activation = MlpSpec::Activation::gelu;
  m.router.renormalize = true;
  m.router.own_norm = true;
  m.router.expert_scales = true;
  for (LayerSpec& layer : s.layers) {
    layer.mlp = m;
    layer.branch_norms = true;
  }
}

constexpr std::array kSharedExpertsNames{
    TensorName{Role::shared_gate, false, "model.layers.{L}.mlp.shared_experts.gate_proj.weight"},
    TensorName{Role::shared_up, false, "model.layers.{L}.mlp.shared_experts.up_proj.weight"},
    TensorName{Role::shared_down, false, "model.layers.{L}.mlp.shared_experts.down_proj.weight"},
};

constexpr std::array kErnieNames{
    kSharedExpertsNames[0],
    kSharedExpertsNames[1],
    kSharedExpertsNames[2],
    TensorName{Role::router_bias, false, "model.layers.{L}.mlp.moe_statics.e_score_correction_bias"},
};

constexpr std::array kMixtralNames{
    TensorName{Role::router_bias, false, "model.layers.{L}.block_sparse_moe.e_score_correction_bias"},
    TensorName{Role::router, false, "model.layers.{L}.block_sparse_moe.gate.weight"},
    TensorName{Role::gate, true, "model.layers.{L}.block_sparse_moe.experts.{E}.w1.weight"},
    TensorName{Role::up, true, "model.layers.{L}.block_sparse_moe.experts.{E}.w3.weight"},
    TensorName{Role::down, true, "model.layers.{L}.block_sparse_moe.experts.{E}.w2.weight"},
};

constexpr std::array kQwen3NextNames{
    TensorName{Role::delta_qkv, false, "model.layers.{L}.linear_attn.in_proj_qkvz.weight"},
    TensorName{Role::delta_b, false, "model.layers.{L}.linear_attn.in_proj_ba.weight"},
};

constexpr std::array kQwen35Names{
    TensorName{Role::gate_up, true, "model.layers.{L}.mlp.experts.gate_up_proj"},
    TensorName{Role::down, true, "model.layers.{L}.mlp.experts.down_proj"},
};

constexpr std::array kGptOssNames{
    TensorName{Role::sinks, false, "model.layers.{L}.self_attn.sinks"},
    TensorName{Role::router, false, "model.layers.{L}.mlp.router.weight"},
    TensorName{Role::router_logit_bias, false, "model.layers.{L}.mlp.router.bias"},
    TensorName{Role::gate_up, true, "model.layers.{L}.mlp.experts.gate_up_proj", true},
    TensorName{Role::gate_up_bias, true, "model.layers.{L}.mlp.experts.gate_up_proj_bias", true},
    TensorName{Role::down, true, "model.layers.{L}.mlp.experts.down_proj", true},
    TensorName{Role::down_bias, true, "model.layers.{L}.mlp.experts.down_proj_bias"},
};

constexpr std::array kGraniteNames{
    TensorName{Role::router, false, "model.layers.{L}.block_sparse_moe.router.layer.weight"},
    TensorName{Role::gate_up, true, "model.layers.{L}.block_sparse_moe.input_linear.weight"},
    TensorName{Role::down, true, "model.layers.{L}.block_sparse_moe.output_linear.weight"},
};

constexpr std::array kHunyuanNames{
    TensorName{Role::q_norm, false, "model.layers.{L}.self_attn.query_layernorm.weight"},
    TensorName{Role::k_norm, false, "model.layers.{L}.self_attn.key_layernorm.weight"},
    TensorName{Role::router, false, "model.layers.{L}.mlp.gate.wg.weight"},
    TensorName{Role::shared_gate, false, "model.layers.{L}.mlp.shared_mlp.gate_proj.weight"},
    TensorName{Role::shared_up, false, "model.layers.{L}.mlp.shared_mlp.up_proj.weight"},
    TensorName{Role::shared_down, false, "model.layers.{L}.mlp.shared_mlp.down_proj.weight"},
};

constexpr std::array kOptNames{
    TensorName{Role::embedding, false, "model.decoder.embed_tokens.weight"},
    TensorName{Role::positions, false, "model.decoder.embed_positions.weight"},
    TensorName{Role::final_norm, false, "model.decoder.final_layer_norm.weight"},
    TensorName{Role::final_norm_bias, false, "model.decoder.final_layer_norm.bias"},
    TensorName{Role::attention_norm, false, "model.decoder.layers.{L}.self_attn_layer_norm.weight"},
    TensorName{Role::attention_norm_bias, false, "model.decoder.layers.{L}.self_attn_layer_norm.bias"},
    TensorName{Role::q, false, "model.decoder.layers.{L}.self_attn.q_proj.weight"},
    TensorName{Role::k, false, "model.decoder.layers.{L}.self_attn.k_proj.weight"},
    TensorName{Role::v, false, "model.decoder.layers.{L}.self_attn.v_proj.weight"},
    TensorName{Role::o, false, "model.decoder.layers.{L}.self_attn.out_proj.weight"},
    TensorName{Role::q_bias, false, "model.decoder.layers.{L}.self_attn.q_proj.bias"},
    TensorName{Role::k_bias, false, "model.decoder.layers.{L}.self_attn.k_proj.bias"},
    TensorName{Role::v_bias, false, "model.decoder.layers.{L}.self_attn.v_proj.bias"},
    TensorName{Role::o_bias, false, "model.decoder.layers.{L}.self_attn.out_proj.bias"},
    TensorName{Role::mlp_norm, false, "model.decoder.layers.{L}.final_layer_norm.weight"},
    TensorName{Role::mlp_norm_bias, false, "model.decoder.layers.{L}.final_layer_norm.bias"},
    TensorName{Role::gate, false, "model.decoder.layers.{L}.fc1.weight"},
    TensorName{Role::gate_bias, false, "model.decoder.layers.{L}.fc1.bias"},
    TensorName{Role::down, false, "model.decoder.layers.{L}.fc2.weight"},
    TensorName{Role::down_bias, false, "model.decoder.layers.{L}.fc2.bias"},
};

constexpr std::array kGemma4Names{
    TensorName{Role::attention_out_norm, false, "model.layers.{L}.post_attention_layernorm.weight"},
    TensorName{Role::mlp_norm, false, "model.layers.{L}.pre_feedforward_layernorm.weight"},
    TensorName{Role::router, false, "model.layers.{L}.router.proj.weight"},
    TensorName{Role::router_norm, false, "model.layers.{L}.router.scale"},
    TensorName{Role::expert_scales, false, "model.layers.{L}.router.per_expert_scale"},
    TensorName{Role::gate_up, true, "model.layers.{L}.experts.gate_up_proj"},
    TensorName{Role::down, true, "model.layers.{L}.experts.down_proj"},
    TensorName{Role::shared_gate, false, "model.layers.{L}.mlp.gate_proj.weight"},
    TensorName{Role::shared_up, false, "model.layers.{L}.mlp.up_proj.weight"},
    TensorName{Role::shared_down, false, "model.layers.{L}.mlp.down_proj.weight"},
    TensorName{Role::expert_norm, false, "model.layers.{L}.pre_feedforward_layernorm_2.weight"},
    TensorName{Role::expert_out_norm, false, "model.layers.{L}.post_feedforward_layernorm_2.weight"},
    TensorName{Role::shared_out_norm, false, "model.layers.{L}.post_feedforward_layernorm_1.weight"},
    TensorName{Role::mlp_out_norm, false, "model.layers.{L}.post_feedforward_layernorm.weight"},
    TensorName{Role::layer_scale, false, "model.layers.{L}.layer_scalar"},
};

constexpr std::array kLlama4Names{
    TensorName{Role::router, false, "model.layers.{L}.feed_forward.router.weight"},
    TensorName{Role::gate, false, "model.layers.{L}.feed_forward.gate_proj.weight"},
    TensorName{Role::up, false, "model.layers.{L}.feed_forward.up_proj.weight"},
    TensorName{Role::down, false, "model.layers.{L}.feed_forward.down_proj.weight"},
    TensorName{Role::gate_up, true, "model.layers.{L}.feed_forward.experts.gate_up_proj", true},
    TensorName{Role::down, true, "model.layers.{L}.feed_forward.experts.down_proj", true},
    TensorName{Role::gate, true, "model.layers.{L}.feed_forward.experts.{E}.gate_proj.weight"},
    TensorName{Role::up, true, "model.layers.{L}.feed_forward.experts.{E}.up_proj.weight"},
    TensorName{Role::down, true, "model.layers.{L}.feed_forward.experts.{E}.down_proj.weight"},
    TensorName{Role::shared_gate, false, "model.layers.{L}.feed_forward.shared_expert.gate_proj.weight"},
    TensorName{Role::shared_up, false, "model.layers.{L}.feed_forward.shared_expert.up_proj.weight"},
    TensorName{Role::shared_down, false, "model.layers.{L}.feed_forward.shared_expert.down_proj.weight"},
};

constexpr std::array kFamilies{
    Family{"llama", "LlamaForCausalLM", read_llama, {}},
    Family{"mistral", "MistralForCausalLM", read_mistral, {}},
    Family{"qwen3", "Qwen3ForCausalLM", read_qwen3, {}},
    Family{"opt", "OPTForCausalLM", read_opt, kOptNames},
    Family{"mixtral", "MixtralForCausalLM", read_mixtral, kMixtralNames, {.tested = "INT8"}},
    Family{"qwen2_moe", "Qwen2MoeForCausalLM", read_qwen2_moe, {}, {.tested = "INT4"}},
    Family{"qwen3_moe", "Qwen3MoeForCausalLM", read_qwen3_moe, {}, {.tested = "INT4"}},
    Family{"qwen3_next", "Qwen3NextForCausalLM", read_qwen3_next, kQwen3NextNames, {.partial_rope = true}},
    Family{"qwen3_5_moe",
           "Qwen3_5MoeForConditionalGeneration",
           read_qwen3_5_moe,
           kQwen35Names,
           {.partial_rope = true, .prefix = "model.language_model.", .splits = true, .tested = "INT8"}},
    Family{"qwen3_5_moe_text",
           "Qwen3_5MoeForCausalLM",
           read_qwen3_5_moe,
           kQwen35Names,
           {.partial_rope = true, .splits = true, .same_as = "qwen3_5_moe"}},
    Family{"olmoe", "OlmoeForCausalLM", read_olmoe, {}},
    Family{"deepseek_v2", "DeepseekV2ForCausalLM", read_deepseek_v2, kSharedExpertsNames, {.latent_attention = true}},
    Family{"deepseek_v3", "DeepseekV3ForCausalLM", read_deepseek_v3, kSharedExpertsNames, {.latent_attention = true, .tested = "FP8 INT4"}},
    Family{"kimi_k2", "KimiK2ForCausalLM", read_deepseek_v3, kSharedExpertsNames, {.latent_attention = true, .same_as = "deepseek_v3"}},
    Family{"kimi_k25",
           "KimiK25ForConditionalGeneration",
           read_deepseek_v3,
           kSharedExpertsNames,
           {.latent_attention = true, .prefix = "language_model.model.", .same_as = "deepseek_v3"}},
    Family{"dots1", "Dots1ForCausalLM", read_dots1, kSharedExpertsNames},
    Family{"glm4_moe", "Glm4MoeForCausalLM", read_glm4_moe, kSharedExpertsNames, {.partial_rope = true, .tested = "FP8"}},
    Family{"minimax_m2", "MiniMaxM2ForCausalLM", read_minimax_m2, kMixtralNames, {.partial_rope = true, .rotary_dim = true}},
    Family{"gpt_oss", "GptOssForCausalLM", read_gpt_oss, kGptOssNames, {.mxfp4 = true, .tested = "MXFP4"}},
    Family{"ernie4_5_moe", "Ernie4_5_MoeForCausalLM", read_ernie4_5_moe, kErnieNames},
    Family{"granitemoe", "GraniteMoeForCausalLM", read_granitemoe, kGraniteNames},
    Family{"hunyuan_v1_moe", "HunYuanMoEV1ForCausalLM", read_hunyuan_v1_moe, kHunyuanNames, {.own_rope = "dynamic"}},
    Family{"phimoe", "PhimoeForCausalLM", read_phimoe, kMixtralNames, {.own_rope = "longrope", .also = "PhiMoEForCausalLM"}},
    Family{"llama4_text", "Llama4ForCausalLM", read_llama4, kLlama4Names, {.splits = true}},
    Family{"llama4",
           "Llama4ForConditionalGeneration",
           read_llama4,
           kLlama4Names,
           {.prefix = "language_model.model.", .splits = true, .same_as = "llama4_text"}},
    Family{"gemma4",
           "Gemma4ForConditionalGeneration",
           read_gemma4,
           kGemma4Names,
           {.layers_differ = true, .rope_of = "sliding_attention", .prefix = "model.language_model."}},
    Family{
        "gemma4_text", "Gemma4ForCausalLM", read_gemma4, kGemma4Names, {.layers_differ = true, .rope_of = "sliding_attention", .same_as = "gemma4"}},
};

}  // namespace

std::span<const Family> families() { return kFamilies; }

bool has_fused_experts(const Family& family) {
  return std::any_of(family.names.begin(), family.names.end(), [](const TensorName& n) { return n.role == Role::gate_up && n.expert; });
}

bool takes_quantised(const Family& family) { return !has_fused_experts(family) || family.traits.splits; }

std::string formats_of(const Family& family) {
  return fmt::format("F32 F16 BF16{}{}", takes_quantised(family) ? " FP8 INT8 INT4" : "", family.traits.mxfp4 ? " MXFP4" : "");
}

std::string tested_formats_of(const Family& family) {
  const auto same = std::find_if(std::begin(kFamilies), std::end(kFamilies), [&](const Family& f) { return f.model_type == original(family); });
  return same->traits.tested.empty() ? "plain" : fmt::format("plain {}", same->traits.tested);
}

std::string_view original(const Family& family) { return family.traits.same_as.empty() ? family.model_type : family.traits.same_as; }

const Family& find_family(const Config& config) {
  const auto architectures = config.texts("architectures");
  const std::string type = config.text("model_type", "");
  for (const Family& family : kFamilies) {
    const bool by_type = architectures.empty() && family.model_type == type;
    const bool by_other_name = !architectures.empty() && !family.traits.also.empty() && family.traits.also == architectures[0];
    if (by_type || by_other_name || (!architectures.empty() && family.architecture == architectures[0])) return family;
  }
  std::string known;
  for (const Family& family : kFamilies) known += (known.empty() ? "" : ", ") + std::string(family.architecture);
  throw_error(ErrorCode::unsupported, "{}: architecture \"{}\" is not supported by this version (it has {})", config.where(),
              architectures.empty() ? type : architectures[0], known);
}

ModelSpec read_spec(const Config& whole, std::optional<int64_t> max_model_len) {
  const Family& family = find_family(whole);
  const Config config = (family.traits.prefix.empty() ? whole : whole.with("text_config")).or_else(defaults_of(original(family)));
  ModelSpec spec = read_common(config, family);
  spec.family = family.model_type;
  family.read(config, spec);
  if (!family.traits.prefix.empty()) spec.tied_embeddings = whole.flag("tie_word_embeddings", spec.tied_embeddings);  // it is of the whole model
  if (max_model_len > spec.max_positions && spec.layers[0].attention.rope.scaling == RopeSpec::Scaling::longrope) take_long_context(config, spec);
  if (!spec.quantisation.none() && !spec.quantisation.is(WeightFormat::mxfp4) && !takes_quantised(family)) {
    const Config q = *config.object(config.first_of({"quantization_config", "compression_config"}));
    unsupported(config, fmt::format("quantization_config (quant_method \"{}\")", q.text("quant_method", "compressed-tensors")));
  }
  if (spec.quantisation.is(WeightFormat::mxfp4)) {
    for (const LayerSpec& layer : spec.layers) {
      if (spec.hidden % kF4Block == 0 && layer.mlp.width % kF4Block == 0) continue;
      throw_error(ErrorCode::corrupt, "{}: experts of {} x {} are not whole blocks of {}, as MXFP4 has them", config.where(), layer.mlp.width,
                  spec.hidden, kF4Block);
    }
  }
  int64_t mlps = 0;
  for (const LayerSpec& layer : spec.layers) {
    mlps += std::max(1, layer.mlp.num_experts);
    if (layer.mlp.width == 0) static_cast<void>(config.integer("intermediate_size", 1, kMaxWidth));  // says that it is missing
  }
  if (mlps > kMaxMlps)
    throw_error(ErrorCode::corrupt, "{}: {} experts in all layers together: at most {} are possible", config.where(), mlps, kMaxMlps);
  return spec;
}

}  // namespace moegen
