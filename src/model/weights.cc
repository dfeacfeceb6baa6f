#include "model/weights.h"

#include "base/check.h"

namespace moegen {
namespace {

TensorView& place_of(ModelWeights& model, const TensorSpec& t) {
  if (t.role == Role::embedding) return model.embedding;
  if (t.role == Role::positions) return model.positions;
  if (t.role == Role::final_norm) return model.final_norm;
  if (t.role == Role::final_norm_bias) return model.final_norm_bias;
  if (t.role == Role::lm_head) return model.lm_head;
  if (t.role == Role::lm_head_bias) return model.lm_head_bias;
  LayerWeights& layer = model.layers[static_cast<size_t>(t.layer)];
  switch (t.role) {
    case Role::attention_norm:
      return layer.attention_norm;
    case Role::q:
      return layer.q;
    case Role::k:
      return layer.k;
    case Role::v:
      return layer.v;
    case Role::q_bias:
      return layer.q_bias;
    case Role::k_bias:
      return layer.k_bias;
    case Role::v_bias:
      return layer.v_bias;
    case Role::q_a:
      return layer.q_a;
    case Role::q_a_norm:
      return layer.q_a_norm;
    case Role::q_b:
      return layer.q_b;
    case Role::kv_a:
      return layer.kv_a;
    case Role::kv_a_norm:
      return layer.kv_a_norm;
    case Role::kv_b:
      return layer.kv_b;
    case Role::sinks:
      return layer.sinks;
    case Role::o:
      return layer.o;
    case Role::o_bias:
      return layer.o_bias;
    case Role::delta_out:
      return layer.o;
    case Role::delta_qkv:
      return layer.delta.qkv;
    case Role::delta_z:
      return layer.delta.z;
    case Role::delta_b:
      return layer.delta.b;
    case Role::delta_a:
      return layer.delta.a;
    case Role::delta_conv:
      return layer.delta.conv;
    case Role::delta_a_log:
      return layer.delta.a_log;
    case Role::delta_dt_bias:
      return layer.delta.dt_bias;
    case Role::delta_norm:
      return layer.delta.norm;
    case Role::q_norm:
      return layer.q_norm;
    case Role::k_norm:
      return layer.k_norm;
    case Role::mlp_norm:
      return layer.mlp_norm;
    case Role::mlp_norm_bias:
      return layer.mlp_norm_bias;
    case Role::attention_norm_bias:
      return layer.attention_norm_bias;
    case Role::router:
      return layer.router;
    case Role::router_logit_bias:
      return layer.router_logit_bias;
    case Role::router_bias:
      return layer.router_bias;
    case Role::router_norm:
      return layer.router_norm;
    case Role::expert_scales:
      return layer.expert_scales;
    case Role::attention_out_norm:
      return layer.attention_out_norm;
    case Role::expert_norm:
      return layer.expert_norm;
    case Role::expert_out_norm:
      return layer.expert_out_norm;
    case Role::shared_out_norm:
      return layer.shared_out_norm;
    case Role::mlp_out_norm:
      return layer.mlp_out_norm;
    case Role::layer_scale:
      return layer.layer_scale;
    default:
      MOEGEN_CHECK(t.role == Role::shared_router);
      return layer.shared_router;
  }
}

MlpWeights* mlp_of(ModelWeights& model, const TensorSpec& t) {
  switch (t.role) {
    case Role::shared_gate:
    case Role::shared_up:
    case Role::shared_down:
      return &model.layers[static_cast<size_t>(t.layer)].shared;
    case Role::gate:
    case Role::up:
    case Role::down:
    case Role::gate_up:
    case Role::gate_up_bias:
    case Role::gate_bias:
    case Role::down_bias: {
      LayerWeights& layer = model.layers[static_cast<size_t>(t.layer)];
      return t.expert < 0 ? &layer.dense : &layer.experts[static_cast<size_t>(t.expert)];
    }
    default:
      return nullptr;
  }
}

void set_part(TensorView& codes, Part part, const TensorView& view) {
  if (part == Part::zeros) {
    codes.zeros = static_cast<const uint8_t*>(view.data);
    return;
  }
  codes.scales = view.data;
  codes.scale_dtype = view.dtype;
  codes.group = codes.cols / view.cols;
}

void set(TensorView& place, Part part, const TensorView& view) {
  if (part != Part::values) return set_part(place, part, view);
  place = view;
}

}  // namespace

void place(MlpWeights& mlp, const MlpSpec& spec, Role role, Part part, const TensorView& view) {
  mlp.clamp = spec.clamp;
  mlp.activation = spec.activation;
  switch (role) {
    case Role::gate:
    case Role::shared_gate:
      return set(mlp.gate, part, view);
    case Role::up:
    case Role::shared_up:
      return set(mlp.up, part, view);
    case Role::down:
    case Role::shared_down:
      return set(mlp.down, part, view);
    case Role::gate_bias:
      mlp.gate_bias = view;
      return;
    case Role::down_bias:
      mlp.down_bias = view;
      return;
    case Role::gate_up_bias:
      mlp.gate_bias = view;
      mlp.gate_bias.rows = 1;
      mlp.up_bias = mlp.gate_bias;
      mlp.up_bias.first = 1;
      return;
    default:
      MOEGEN_CHECK(role == Role::gate_up);
      if (part != Part::values) {
        set_part(mlp.gate, part, view);
        return set_part(mlp.up, part, view);
      }
      mlp.gate = view;
      mlp.gate.rows = view.rows / 2;
      mlp.gate.step = spec.interleaved ? 2 : 1;
      mlp.up = mlp.gate;
      mlp.up.first = spec.interleaved ? 1 : mlp.gate.rows;
  }
}

ModelWeights assign_weights(const ModelSpec& spec, std::span<const TensorSpec> table, std::span<const TensorView> views) {
  MOEGEN_CHECK(table.size() == views.size());
  ModelWeights model;
  model.layers.resize(spec.layers.size());
  for (size_t l = 0; l < spec.layers.size(); ++l) model.layers[l].experts.resize(static_cast<size_t>(spec.layers[l].mlp.num_experts));
  for (size_t i = 0; i < table.size(); ++i) {
    if (MlpWeights* mlp = mlp_of(model, table[i]); mlp != nullptr) {
      place(*mlp, spec.layers[static_cast<size_t>(table[i].layer)].mlp, table[i].role, table[i].part, views[i]);
    } else {
      set(place_of(model, table[i]), table[i].part, views[i]);
    }
  }
  if (!model.lm_head) model.lm_head = model.embedding;
  return model;
}

}  // namespace moegen
