#include "spec/common_fields.h"

#include <algorithm>
#include <cmath>

namespace moegen {
namespace {

// yarn's correction of the attention's temperature (arXiv 2309.00071, section 3.4); 1 where there is none.
double yarn_mscale(double factor, double m) { return factor <= 1 ? 1.0 : 0.1 * m * std::log(factor) + 1; }

void read_yarn(const Config& r, RopeSpec& rope) {
  rope.beta_fast = r.number("beta_fast", 1e-6, 1e6, 32);
  rope.beta_slow = r.number("beta_slow", 1e-6, 1e6, 1);
  rope.truncate = r.flag("truncate", true);
  const auto amplitude = [&](double m) { return yarn_mscale(rope.factor, m); };
  const double mscale = r.number("mscale", 0, 1e3, 0);
  const double mscale_all_dim = r.number("mscale_all_dim", 0, 1e3, 0);
  rope.amplitude = mscale != 0 && mscale_all_dim != 0 ? amplitude(mscale) / amplitude(mscale_all_dim) : amplitude(1);
  rope.amplitude = r.number("attention_factor", 1e-6, 1e6, rope.amplitude);
}

RopeSpec::Scaling scaling_of(const Config& r) {
  const std::string type = r.text(r.first_of({"rope_type", "type"}), "default");
  // "dynamic" grows the base with what is beyond max_position_embeddings, which no sequence is.
  if (type == "default" || type == "dynamic") return RopeSpec::Scaling::none;
  if (type == "linear") return RopeSpec::Scaling::linear;
  if (type == "llama3") return RopeSpec::Scaling::llama3;
  if (type == "yarn") return RopeSpec::Scaling::yarn;
  unsupported(r, "rope type \"" + type + "\"");
}

void read_llama3(const Config& r, RopeSpec& rope) {
  rope.low_freq_factor = r.number("low_freq_factor", 1e-6, 1e6);
  rope.high_freq_factor = r.number("high_freq_factor", 1e-6, 1e6);
  if (rope.low_freq_factor > rope.high_freq_factor) {
    throw_error(ErrorCode::corrupt, "{}: low_freq_factor {} is above high_freq_factor {}", r.where(), rope.low_freq_factor, rope.high_freq_factor);
  }
}

// `kind`: "short" or "long". A sequence has those of one kind at all positions: others would give the same tokens other keys.
void read_longrope(const Config& r, const std::string& kind, RopeSpec& rope) {
  rope.divisors = r.numbers(kind + "_factor", 1e-6, 1e6);
  if (rope.divisors.size() != static_cast<size_t>(rope.dim / 2))
    throw_error(ErrorCode::corrupt, "{}: {}_factor has {} numbers for {} pairs", r.where(), kind, rope.divisors.size(), rope.dim / 2);
  rope.amplitude = r.number(kind + "_mscale", 1e-6, 1e6);
}

// rope_scaling (transformers 4) or rope_parameters (5). Where both are, rope_scaling says how to scale, as there.
Config rope_fields(const Config& c) {
  const Config none(nlohmann::json::object(), c.where());
  const Config v4 = c.object("rope_scaling").value_or(none);
  return v4.empty() ? c.object("rope_parameters").value_or(none) : v4;
}

RopeSpec read_rope(const Config& c, int rotated, int64_t positions, const Family& family) {
  constexpr double kMinTheta = 2, kMaxTheta = 1e15;
  const Config v5 = c.object("rope_parameters").value_or(Config(nlohmann::json::object(), c.where()));
  const Config all = rope_fields(c);
  const Config r = family.traits.rope_of.empty() ? all : all.object(family.traits.rope_of).value_or(all);
  for (const std::string_view type : {"full_attention", "sliding_attention", "chunked_attention"}) {
    if (r.has(type)) unsupported(r, "rope for each layer type (\"" + std::string(type) + "\")");
  }
  RopeSpec rope;
  rope.theta = c.number("rope_theta", kMinTheta, kMaxTheta, 1e4);
  rope.theta = r.number("rope_theta", kMinTheta, kMaxTheta, v5.number("rope_theta", kMinTheta, kMaxTheta, rope.theta));
  rope.dim = rotated;
  const bool own = !family.traits.own_rope.empty() && r.text(r.first_of({"rope_type", "type"}), "") == family.traits.own_rope;
  if (own && family.traits.own_rope == "dynamic" && r.has("alpha")) {
    if (rotated > 2) rope.theta *= std::pow(r.number("alpha", 1e-3, 1e6), rotated / (rotated - 2.0));
    return rope;
  }
  rope.scaling = own && family.traits.own_rope == "longrope" ? RopeSpec::Scaling::longrope : scaling_of(r);
  if (rope.scaling == RopeSpec::Scaling::none) return rope;
  const auto max_len = static_cast<double>(positions);
  rope.original_len = max_len;
  for (const Config& from : {r, c}) {
    rope.original_len = from.number("original_max_position_embeddings", 1, static_cast<double>(kMaxPositions), rope.original_len);
  }
  if (rope.scaling == RopeSpec::Scaling::longrope) {
    read_longrope(r, "short", rope);
    return rope;
  }
  const bool derived = rope.scaling == RopeSpec::Scaling::yarn && !r.has("factor");
  rope.factor = derived ? max_len / rope.original_len : r.number("factor", 1e-6, 1e6);
  if (rope.scaling == RopeSpec::Scaling::llama3) read_llama3(r, rope);
  if (rope.scaling == RopeSpec::Scaling::yarn) read_yarn(r, rope);
  return rope;
}

// How many of a head's values are turned.
int rotated_width(const Config& c, int head_dim, const Family& family) {
  double factor = c.number("partial_rotary_factor", 1e-3, 1, 1);
  bool said = c.has("partial_rotary_factor");
  for (const std::string_view name : {"rope_parameters", "rope_scaling"}) {
    if (const auto r = c.object(name); r && r->has("partial_rotary_factor")) {
      factor = r->number("partial_rotary_factor", 1e-3, 1);
      said = true;
    }
  }
  // transformers ignores it in other families where the rope is plain, others do not: better no answer than one of two.
  if (!family.traits.partial_rope && factor != 1) unsupported(c, "partial_rotary_factor");
  const int width = to_int(static_cast<int64_t>(head_dim * factor));
  if (!family.traits.partial_rope || !c.has("rotary_dim")) return width;
  const int other = to_int(c.integer("rotary_dim", 2, head_dim));
  if (family.traits.rotary_dim && !said) {  // transformers turns int(head_dim * (rotary_dim / head_dim))
    if (static_cast<int>(head_dim * (static_cast<double>(other) / head_dim)) != other)
      unsupported(c, fmt::format("rotary_dim {} of head_dim {}", other, head_dim));
    return other;
  }
  if (other != width) unsupported(c, fmt::format("rotary_dim {} where partial_rotary_factor says {}", other, width));  // programs differ
  return width;
}

// In the absorbed form: one KV head.
AttentionSpec read_latent_attention(const Config& c, int64_t positions, const Family& family) {
  constexpr int64_t kMaxDim = 4096;
  AttentionSpec a;
  LatentSpec& m = a.latent;
  a.num_heads = to_int(c.integer("num_attention_heads", 1, kMaxWidth));
  m.q_rank = to_int(c.integer("q_lora_rank", 1, kMaxWidth, 0));
  m.kv_rank = to_int(c.integer("kv_lora_rank", 2, kMaxDim));
  m.plain_dim = to_int(c.integer("qk_nope_head_dim", 1, kMaxDim));
  m.rope_dim = to_int(c.integer("qk_rope_head_dim", 2, kMaxDim));
  m.v_dim = to_int(c.integer("v_head_dim", 1, kMaxDim));
  if (m.kv_rank % 2 != 0) throw_error(ErrorCode::corrupt, "{}: kv_lora_rank {} is not even", c.where(), m.kv_rank);
  a.num_kv_heads = 1;
  a.head_dim = m.kv_rank + m.rope_dim;
  if (int64_t{a.num_heads} * std::max(a.head_dim, m.plain_dim + m.v_dim) > kMaxWidth)
    throw_error(ErrorCode::corrupt, "{}: {} heads of {} are too wide", c.where(), a.num_heads, a.head_dim);
  a.rope = read_rope(c, m.rope_dim, positions, family);
  a.rope.interleaved = c.flag("rope_interleave", true);
  check_rope(c, a.rope);
  double scale = 1 / std::sqrt(static_cast<double>(m.plain_dim + m.rope_dim));
  const Config r = rope_fields(c);
  const double all_dim = r.number("mscale_all_dim", 0, 1e3, 0);
  if (a.rope.scaling != RopeSpec::Scaling::none) {
    const double mscale = yarn_mscale(a.rope.factor, all_dim);
    scale *= mscale * mscale;
  } else if (all_dim != 0 && r.text(r.first_of({"rope_type", "type"}), "default") != "default") {
    unsupported(r, "mscale_all_dim with rope type \"dynamic\"");
  }
  a.scale = static_cast<float>(scale);
  return a;
}

AttentionSpec read_attention(const Config& c, int hidden, int64_t positions, const Family& family) {
  AttentionSpec a;
  a.num_heads = to_int(c.integer("num_attention_heads", 1, kMaxWidth));
  a.num_kv_heads = to_int(c.integer("num_key_value_heads", 1, kMaxWidth, a.num_heads));
  a.head_dim = to_int(c.integer("head_dim", 2, 4096, std::max(1, hidden / a.num_heads)));
  if (a.num_heads % a.num_kv_heads != 0) {
    throw_error(ErrorCode::corrupt, "{}: num_attention_heads {} is no multiple of num_key_value_heads {}", c.where(), a.num_heads, a.num_kv_heads);
  }
  if (int64_t{a.num_heads} * a.head_dim > kMaxWidth)
    throw_error(ErrorCode::corrupt, "{}: {} heads of {} are too wide", c.where(), a.num_heads, a.head_dim);
  if (a.head_dim % 2 != 0) unsupported(c, fmt::format("head_dim {}, which is odd,", a.head_dim));  // pages have pairs
  a.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(a.head_dim)));
  a.rope = read_rope(c, rotated_width(c, a.head_dim, family), positions, family);
  check_rope(c, a.rope);
  return a;
}

}  // namespace

void unsupported(const Config& c, const std::string& what) { throw_error(ErrorCode::unsupported, "{}: {} is not supported", c.where(), what); }

void check_rope(const Config& c, const RopeSpec& rope) {
  if (rope.dim < 2 || rope.dim % 2 != 0) throw_error(ErrorCode::corrupt, "{}: a rotated width of {} is not even", c.where(), rope.dim);
}

ModelSpec read_common(const Config& c, const Family& family) {
  ModelSpec s;
  s.hidden = to_int(c.integer("hidden_size", 1, kMaxWidth));
  s.vocab = to_int(c.integer("vocab_size", 1, kMaxVocab));
  s.norm_eps = static_cast<float>(c.number("rms_norm_eps", 0, 1, 1e-6));
  s.tied_embeddings = c.flag("tie_word_embeddings", false);
  s.max_positions = c.integer("max_position_embeddings", 1, kMaxPositions, 2048);
  const std::string dtype = c.text(c.first_of({"dtype", "torch_dtype"}), "bfloat16");
  s.dtype = dtype == "float32" ? DType::f32 : dtype == "float16" ? DType::f16 : DType::bf16;
  for (const int64_t id : c.integers("eos_token_id", 0, kMaxVocab)) s.eos_ids.push_back(static_cast<int32_t>(id));
  if (const std::string act = c.text("hidden_act", "silu"); act != "silu" && act != "swish") unsupported(c, "hidden_act \"" + act + "\"");
  s.quantisation = read_quantisation(c, family.traits.mxfp4);
  if (c.flag("mlp_bias", false)) unsupported(c, "mlp_bias");
  if (const auto own = c.object("per_layer_config"); own && !family.traits.layers_differ && !own->empty()) unsupported(c, "per_layer_config");
  LayerSpec layer;
  layer.attention =
      family.traits.latent_attention ? read_latent_attention(c, s.max_positions, family) : read_attention(c, s.hidden, s.max_positions, family);
  const RopeSpec& rope = layer.attention.rope;
  if (rope.scaling == RopeSpec::Scaling::yarn) s.max_positions = std::max(s.max_positions, static_cast<int64_t>(rope.original_len * rope.factor));
  if (rope.scaling == RopeSpec::Scaling::longrope) s.max_positions = std::min(s.max_positions, static_cast<int64_t>(rope.original_len));
  layer.mlp.width = to_int(c.integer("intermediate_size", 1, kMaxWidth, 0));  // of dense layers, if there are any
  s.prediction_layers = to_int(c.integer(c.first_of({"num_nextn_predict_layers", "num_mtp_modules"}), 0, 64, 0));
  s.layers.assign(static_cast<size_t>(c.integer("num_hidden_layers", 1, kMaxLayers)), layer);
  return s;
}

MlpSpec read_experts(const Config& c, std::string_view count_field, std::string_view width_field, bool renormalize) {
  MlpSpec m;
  m.num_experts = to_int(c.integer(count_field, 1, kMaxExperts));
  m.top_k = to_int(c.integer("num_experts_per_tok", 1, m.num_experts));
  m.width = to_int(c.integer(width_field, 1, kMaxWidth));
  m.router.renormalize = renormalize;
  return m;
}

int64_t read_window(const Config& c) { return c.integer("sliding_window", 1, kMaxPositions - 1, 0); }

void take_long_context(const Config& c, ModelSpec& spec) {
  spec.max_positions = c.integer("max_position_embeddings", 1, kMaxPositions);
  for (LayerSpec& layer : spec.layers) read_longrope(rope_fields(c), "long", layer.attention.rope);
}

}  // namespace moegen
