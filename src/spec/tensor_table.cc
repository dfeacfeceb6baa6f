#include "spec/tensor_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/check.h"
#include "spec/coded_tensors.h"
#include "spec/families.h"

namespace moegen {
namespace {

// As most of the field calls them. A family's own table comes first.
constexpr std::array kCommonNames{
    TensorName{Role::embedding, false, "model.embed_tokens.weight"},
    TensorName{Role::final_norm, false, "model.norm.weight"},
    TensorName{Role::final_norm_bias, false, "model.norm.bias"},
    TensorName{Role::lm_head, false, "lm_head.weight"},
    TensorName{Role::lm_head_bias, false, "lm_head.bias"},
    TensorName{Role::attention_norm, false, "model.layers.{L}.input_layernorm.weight"},
    TensorName{Role::attention_norm_bias, false, "model.layers.{L}.input_layernorm.bias"},
    TensorName{Role::q, false, "model.layers.{L}.self_attn.q_proj.weight"},
    TensorName{Role::k, false, "model.layers.{L}.self_attn.k_proj.weight"},
    TensorName{Role::v, false, "model.layers.{L}.self_attn.v_proj.weight"},
    TensorName{Role::q_bias, false, "model.layers.{L}.self_attn.q_proj.bias"},
    TensorName{Role::k_bias, false, "model.layers.{L}.self_attn.k_proj.bias"},
    TensorName{Role::v_bias, false, "model.layers.{L}.self_attn.v_proj.bias"},
    TensorName{Role::q_a, false, "model.layers.{L}.self_attn.q_a_proj.weight"},
    TensorName{Role::q_a_norm, false, "model.layers.{L}.self_attn.q_a_layernorm.weight"},
    TensorName{Role::q_b, false, "model.layers.{L}.self_attn.q_b_proj.weight"},
    TensorName{Role::kv_a, false, "model.layers.{L}.self_attn.kv_a_proj_with_mqa.weight"},
    TensorName{Role::kv_a_norm, false, "model.layers.{L}.self_attn.kv_a_layernorm.weight"},
    TensorName{Role::kv_b, false, "model.layers.{L}.self_attn.kv_b_proj.weight"},
    TensorName{Role::delta_qkv, false, "model.layers.{L}.linear_attn.in_proj_qkv.weight"},
    TensorName{Role::delta_z, false, "model.layers.{L}.linear_attn.in_proj_z.weight"},
    TensorName{Role::delta_b, false, "model.layers.{L}.linear_attn.in_proj_b.weight"},
    TensorName{Role::delta_a, false, "model.layers.{L}.linear_attn.in_proj_a.weight"},
    TensorName{Role::delta_conv, false, "model.layers.{L}.linear_attn.conv1d.weight"},
    TensorName{Role::delta_a_log, false, "model.layers.{L}.linear_attn.A_log"},
    TensorName{Role::delta_dt_bias, false, "model.layers.{L}.linear_attn.dt_bias"},
    TensorName{Role::delta_norm, false, "model.layers.{L}.linear_attn.norm.weight"},
    TensorName{Role::delta_out, false, "model.layers.{L}.linear_attn.out_proj.weight"},
    TensorName{Role::o, false, "model.layers.{L}.self_attn.o_proj.weight"},
    TensorName{Role::o_bias, false, "model.layers.{L}.self_attn.o_proj.bias"},
    TensorName{Role::q_norm, false, "model.layers.{L}.self_attn.q_norm.weight"},
    TensorName{Role::k_norm, false, "model.layers.{L}.self_attn.k_norm.weight"},
    TensorName{Role::mlp_norm, false, "model.layers.{L}.post_attention_layernorm.weight"},
    TensorName{Role::mlp_norm_bias, false, "model.layers.{L}.post_attention_layernorm.bias"},
    TensorName{Role::router, false, "model.layers.{L}.mlp.gate.weight"},
    TensorName{Role::router_bias, false, "model.layers.{L}.mlp.gate.e_score_correction_bias"},
    TensorName{Role::gate, false, "model.layers.{L}.mlp.gate_proj.weight"},
    TensorName{Role::up, false, "model.layers.{L}.mlp.up_proj.weight"},
    TensorName{Role::down, false, "model.layers.{L}.mlp.down_proj.weight"},
    TensorName{Role::gate, true, "model.layers.{L}.mlp.experts.{E}.gate_proj.weight"},
    TensorName{Role::up, true, "model.layers.{L}.mlp.experts.{E}.up_proj.weight"},
    TensorName{Role::down, true, "model.layers.{L}.mlp.experts.{E}.down_proj.weight"},
    TensorName{Role::shared_gate, false, "model.layers.{L}.mlp.shared_expert.gate_proj.weight"},
    TensorName{Role::shared_up, false, "model.layers.{L}.mlp.shared_expert.up_proj.weight"},
    TensorName{Role::shared_down, false, "model.layers.{L}.mlp.shared_expert.down_proj.weight"},
    TensorName{Role::shared_router, false, "model.layers.{L}.mlp.shared_expert_gate.weight"},
};

std::string fill(std::string_view pattern, std::string_view mark, int number) {
  std::string out(pattern);
  if (const auto at = out.find(mark); at != std::string::npos) out.replace(at, mark.size(), std::to_string(number));
  return out;
}

// Matrices that quantisations leave alone, unless a checkpoint shows otherwise.
bool is_rarely_quantised(Role role) { return role == Role::lm_head || role == Role::router || role == Role::shared_router; }

// Whether codes have the name of the plain matrix.
bool is_in_place(WeightFormat f) { return f == WeightFormat::f8_blocks || f == WeightFormat::f8_rows || f == WeightFormat::bytes; }

// `split`: of an expert, a tensor of its own.
const TensorName* find_name(std::span<const TensorName> names, Role role, bool expert, bool split = false) {
  const auto it = std::find_if(names.begin(), names.end(), [&](const TensorName& n) {
    return n.role == role && n.expert == expert && !(split && expert && n.pattern.find("{E}") == std::string_view::npos);
  });
  return it == names.end() ? nullptr : &*it;
}

const Family* family_of(const ModelSpec& spec) {
  const auto all = families();
  const auto it = std::find_if(all.begin(), all.end(), [&](const Family& f) { return f.model_type == spec.family; });
  return it == all.end() ? nullptr : &*it;
}

constexpr std::string_view kModelPrefix = "model.";
constexpr std::string_view kInner = ".model.";  // a prefix that ends so is that of a whole text model, with its head
constexpr std::array<std::string_view, 7> kImagePrefixes{"model.visual.",       "vision_model.", "multi_modal_projector.", "model.vision_tower.",
                                                         "model.embed_vision.", "vision_tower.", "mm_projector."};
constexpr std::array<std::string_view, 2> kAudioPrefixes{"model.audio_tower.", "model.embed_audio."};

class Table {
 public:
  Table(const ModelSpec& spec, const Family* family, bool split, const FindTensor& find)
      : spec_(spec), split_(split), find_(find), schemes_(spec.quantisation) {
    if (family == nullptr) return;
    own_ = family->names;
    prefix_ = family->traits.prefix;
    split_ = split_ || (family->traits.splits && !spec.quantisation.none() && !has_plain_experts(*family));
    // Written by the model without its head, as some OPT are: transformers takes both.
    const TensorName* first = find_name(own_, Role::embedding, false, split_);
    const std::string name(first != nullptr ? first->pattern : find_name(kCommonNames, Role::embedding, false)->pattern);
    headless_ = find && prefix_.empty() && name.starts_with(kModelPrefix) && !find(name) && find(name.substr(kModelPrefix.size()));
  }

  // Whether all experts are in one tensor although other layers are quantised.
  [[nodiscard]] bool has_plain_experts(const Family& family) const {
    const TensorName* name = find_name(family.names, Role::down, true);
    const auto layer = std::find_if(spec_.layers.begin(), spec_.layers.end(), [](const LayerSpec& l) { return !l.mlp.dense(); });
    if (!find_ || name == nullptr || layer == spec_.layers.end()) return false;
    return find_(in_files(fill(name->pattern, "{L}", static_cast<int>(layer - spec_.layers.begin())))).has_value();
  }

  // What a tensor of the common names' form is called in this checkpoint.
  [[nodiscard]] std::string in_files(std::string name) const {
    if (headless_ && name.starts_with(kModelPrefix)) {
      name.erase(0, kModelPrefix.size());
    } else if (!prefix_.empty() && name.starts_with(kModelPrefix)) {
      name.replace(0, kModelPrefix.size(), prefix_);
    } else if (prefix_.ends_with(kInner)) {
      name.insert(0, prefix_.substr(0, prefix_.size() - kModelPrefix.size()));
    }
    return name;
  }

  void add(Role role, int layer, int expert, std::vector<int64_t> shape) {
    const TensorName* name = find_name(own_, role, expert >= 0, split_);
    if (name == nullptr) name = find_name(kCommonNames, role, expert >= 0);
    MOEGEN_CHECK(name != nullptr);
    TensorSpec& t = out_.emplace_back();
    t.role = role;
    t.layer = layer;
    t.expert = expert;
    t.name = in_files(fill(fill(name->pattern, "{L}", layer), "{E}", expert));
    t.shape = shape;
    if (name->turned) t.form = Form::turned;
    if (name->turned) std::reverse(shape.begin(), shape.end());
    if (role == Role::gate_up_bias) shape = {shape[0] * shape[1]};
    if (expert >= 0 && name->pattern.find("{E}") == std::string_view::npos) {
      t.slice = expert;
      shape.insert(shape.begin(), spec_.layers[static_cast<size_t>(layer)].mlp.num_experts);
    }
    t.file_shape = std::move(shape);
    if (t.shape.size() == 2 && role != Role::gate_up_bias) quantise();
  }

  // The last tensor, where a scheme applies to it.
  void quantise() {
    const WeightScheme* scheme = scheme_of(out_.back());
    if (scheme == nullptr) return;
    TensorSpec& t = out_.back();
    switch (scheme->format) {
      case WeightFormat::f8_blocks:
      case WeightFormat::f8_rows: {
        const bool blocks = scheme->format == WeightFormat::f8_blocks;
        t.quantised = DType::f8_e4m3;
        t.block_rows = blocks ? kF8Block : 1;
        t.group = blocks ? kF8Block : t.shape[1];
        return;
      }
      default: {
        const TensorSpec whole = std::move(t);
        out_.pop_back();
        const bool bytes = find_ && find_(whole.name + "_zero_point") == DType::i8;
        for (TensorSpec& part : coded_tensors(whole, *scheme, bytes)) {
          if (part.part == Part::scales && !part.quantised) part.quantised = spec_.dtype;
          out_.push_back(std::move(part));
        }
      }
    }
  }

  // Where there are files, what they have decides.
  const WeightScheme* scheme_of(const TensorSpec& t) {
    if (spec_.quantisation.none()) return nullptr;
    if (spec_.quantisation.is(WeightFormat::mxfp4)) return t.expert >= 0 ? spec_.quantisation.schemes.data() : nullptr;
    constexpr std::string_view kWeight = ".weight";
    if (!t.name.ends_with(kWeight) || t.slice >= 0 || t.role == Role::embedding || t.role == Role::positions) return nullptr;
    const std::string module = t.name.substr(0, t.name.size() - kWeight.size());
    const WeightScheme* expected = is_rarely_quantised(t.role) ? nullptr : schemes_.find(module);
    if (!find_) return expected != nullptr && is_whole_words(t, *expected) ? expected : nullptr;  // what cannot be so will be plain
    if (const std::optional<DType> dtype = find_(t.name)) {                                       // codes may be called so, too
      const bool coded = dtype == DType::i8 || dtype == DType::f8_e4m3;
      const WeightScheme* target = !coded ? nullptr : expected != nullptr ? expected : schemes_.find_target(module);
      return target != nullptr && is_in_place(target->format) ? target : nullptr;
    }
    const bool packed = find_(module + ".weight_packed") || find_(module + ".qweight");
    return expected == nullptr && packed ? schemes_.find_target(module) : expected;
  }

  void add_norm(Role weight, Role bias, int layer) {
    add(weight, layer, -1, {spec_.hidden});
    if (spec_.layer_norm) add(bias, layer, -1, {spec_.hidden});
  }

  void add_branch_norms(int l) {
    for (const Role role : {Role::attention_out_norm, Role::expert_norm, Role::expert_out_norm, Role::shared_out_norm, Role::mlp_out_norm})
      add(role, l, -1, {spec_.hidden});
    add(Role::layer_scale, l, -1, {1});
  }

  void add_attention(int l) {
    const AttentionSpec& a = spec_.layers[static_cast<size_t>(l)].attention;
    const int64_t h = spec_.hidden;
    add_norm(Role::attention_norm, Role::attention_norm_bias, l);
    if (a.is_latent()) {
      add_latent_attention(l);
      return;
    }
    if (a.is_linear()) {
      add_linear_attention(l);
      return;
    }
    add(Role::q, l, -1, {a.q_outputs(), h});
    add(Role::k, l, -1, {a.kv_width(), h});
    if (!a.k_is_v) add(Role::v, l, -1, {a.kv_width(), h});
    if (a.qkv_bias) {
      add(Role::q_bias, l, -1, {a.q_width()});
      add(Role::k_bias, l, -1, {a.kv_width()});
      add(Role::v_bias, l, -1, {a.kv_width()});
    }
    if (a.sinks) add(Role::sinks, l, -1, {a.num_heads});
    add(Role::o, l, -1, {h, a.q_width()});
    if (a.o_bias) add(Role::o_bias, l, -1, {h});
    if (a.qk_norm == AttentionSpec::QkNorm::per_head || a.qk_norm == AttentionSpec::QkNorm::whole) {
      const bool whole = a.qk_norm == AttentionSpec::QkNorm::whole;
      add(Role::q_norm, l, -1, {whole ? a.q_width() : a.head_dim});
      add(Role::k_norm, l, -1, {whole ? a.kv_width() : a.head_dim});
    }
  }

  void add_latent_attention(int l) {
    const AttentionSpec& a = spec_.layers[static_cast<size_t>(l)].attention;
    const LatentSpec& m = a.latent;
    const int64_t h = spec_.hidden;
    const int64_t q_width = int64_t{a.num_heads} * (m.plain_dim + m.rope_dim);
    if (m.q_rank > 0) {
      add(Role::q_a, l, -1, {m.q_rank, h});
      add(Role::q_a_norm, l, -1, {m.q_rank});
      add(Role::q_b, l, -1, {q_width, m.q_rank});
    } else {
      add(Role::q, l, -1, {q_width, h});
    }
    add(Role::kv_a, l, -1, {m.kv_rank + m.rope_dim, h});
    add(Role::kv_a_norm, l, -1, {m.kv_rank});
    add(Role::kv_b, l, -1, {int64_t{a.num_heads} * (m.plain_dim + m.v_dim), m.kv_rank});
    add(Role::o, l, -1, {h, a.o_width()});
  }

  void add_linear_attention(int l) {
    const DeltaSpec& d = spec_.layers[static_cast<size_t>(l)].attention.delta;
    const int64_t h = spec_.hidden;
    const int64_t beside = d.grouped ? d.value_width() : 0;
    add(Role::delta_qkv, l, -1, {d.channels() + beside, h});
    if (!d.grouped) add(Role::delta_z, l, -1, {d.value_width(), h});
    add(Role::delta_b, l, -1, {d.grouped ? 2 * d.value_heads : d.value_heads, h});
    if (!d.grouped) add(Role::delta_a, l, -1, {d.value_heads, h});
    add(Role::delta_conv, l, -1, {d.channels(), 1, d.taps});
    add(Role::delta_a_log, l, -1, {d.value_heads});
    add(Role::delta_dt_bias, l, -1, {d.value_heads});
    add(Role::delta_norm, l, -1, {d.value_dim});
    add(Role::delta_out, l, -1, {h, d.value_width()});
  }

  void add_mlp(int l) {
    const MlpSpec& m = spec_.layers[static_cast<size_t>(l)].mlp;
    const int64_t h = spec_.hidden;
    add_norm(Role::mlp_norm, Role::mlp_norm_bias, l);
    if (!m.dense()) add(Role::router, l, -1, {m.num_experts, h});
    if (m.router.logit_bias) add(Role::router_logit_bias, l, -1, {m.num_experts});
    if (m.router.own_norm) add(Role::router_norm, l, -1, {h});
    if (m.router.expert_scales) add(Role::expert_scales, l, -1, {m.num_experts});
    if (m.router.correction_bias) add(Role::router_bias, l, -1, {m.num_experts});
    for (int e = m.dense() ? -1 : 0; e < m.num_experts; ++e) {
      if (e < 0 && !m.dense()) continue;
      if (find_name(own_, Role::gate_up, e >= 0) != nullptr && !split_) {
        add(Role::gate_up, l, e, {2 * m.width, h});
      } else {
        add(Role::gate, l, e, {m.width, h});
        if (m.has_up()) add(Role::up, l, e, {m.width, h});
      }
      add(Role::down, l, e, {h, m.width});
      if (m.bias) {
        if (m.has_up()) {
          add(Role::gate_up_bias, l, e, {2, m.width});
        } else {
          add(Role::gate_bias, l, e, {m.width});
        }
        add(Role::down_bias, l, e, {h});
      }
    }
    if (m.shared_width > 0) {
      add(Role::shared_gate, l, -1, {m.shared_width, h});
      add(Role::shared_up, l, -1, {m.shared_width, h});
      add(Role::shared_down, l, -1, {h, m.shared_width});
      if (m.shared_gate) add(Role::shared_router, l, -1, {1, h});
    }
    if (spec_.layers[static_cast<size_t>(l)].branch_norms) add_branch_norms(l);
  }

  std::vector<TensorSpec> take() { return std::move(out_); }

 private:
  const ModelSpec& spec_;
  bool split_;
  const FindTensor& find_;
  SchemeFinder schemes_;
  std::span<const TensorName> own_;
  std::string_view prefix_;
  bool headless_ = false;
  std::vector<TensorSpec> out_;
};

}  // namespace

uint64_t elements_of(const TensorSpec& spec) {
  uint64_t n = 1;
  for (const int64_t dim : spec.shape) n *= static_cast<uint64_t>(dim);
  return n;
}

std::vector<TensorSpec> tensor_table(const ModelSpec& spec, bool split, const FindTensor& find) {
  Table table(spec, family_of(spec), split, find);
  table.add(Role::embedding, -1, -1, {spec.vocab, spec.hidden});
  if (spec.positions > 0) table.add(Role::positions, -1, -1, {spec.positions, spec.hidden});
  for (int l = 0; l < static_cast<int>(spec.layers.size()); ++l) {
    table.add_attention(l);
    table.add_mlp(l);
  }
  table.add_norm(Role::final_norm, Role::final_norm_bias, -1);
  if (!spec.tied_embeddings) table.add(Role::lm_head, -1, -1, {spec.vocab, spec.hidden});
  if (spec.head_bias) table.add(Role::lm_head_bias, -1, -1, {spec.vocab});
  return table.take();
}

std::string common_name(const ModelSpec& spec, std::string_view tensor) {
  const Family* family = family_of(spec);
  const std::string_view prefix = family != nullptr ? family->traits.prefix : "";
  if (prefix.empty()) return std::string(tensor);
  const std::string_view outer = prefix.ends_with(kInner) ? prefix.substr(0, prefix.size() - kModelPrefix.size()) : "";
  if (tensor.starts_with(prefix)) return fmt::format("{}{}", kModelPrefix, tensor.substr(prefix.size()));
  return std::string(!outer.empty() && tensor.starts_with(outer) ? tensor.substr(outer.size()) : tensor);
}

std::string_view reason_to_skip(const ModelSpec& spec, std::string_view in_files) {
  const std::string tensor = common_name(spec, in_files);
  if (tensor.ends_with(".rotary_emb.inv_freq")) return "computed from config.json";
  if (spec.tied_embeddings && tensor == "lm_head.weight") return "tied to the embedding";
  if (!spec.quantisation.none() && tensor.ends_with(".weight_shape")) return "follows from config.json";
  for (const std::string_view end : {".input_scale", ".input_zero_point", ".output_scale", ".output_zero_point", ".activation_scale"}) {
    if (!spec.quantisation.none() && tensor.ends_with(end)) return "activations are not quantised";
  }
  for (const std::string_view end : {".k_scale", ".v_scale", ".kv_scale", ".q_scale", ".k_zero_point", ".v_zero_point", ".q_zero_point"}) {
    if (!spec.quantisation.none() && tensor.ends_with(end)) return "of another cache than this one's";
  }
  for (int i = 0; i < spec.prediction_layers; ++i) {
    if (tensor.starts_with(fmt::format("model.layers.{}.", spec.layers.size() + static_cast<size_t>(i)))) return "predicts further tokens";
  }
  if (tensor.starts_with("mtp.") || tensor.starts_with("model.mtp_")) return "predicts further tokens";
  if (const Family* family = family_of(spec); family != nullptr && !family->traits.prefix.empty()) {
    const auto is_of = [&](std::span<const std::string_view> prefixes) {
      return std::any_of(prefixes.begin(), prefixes.end(), [&](std::string_view p) { return in_files.starts_with(p); });
    };
    if (is_of(kAudioPrefixes)) return "for sound, which this version does not read";
    if (is_of(kImagePrefixes)) return "for images, which this version does not read";
  }
  return "";
}

}  // namespace moegen
