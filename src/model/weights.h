#pragma once

#include <span>
#include <vector>

#include "spec/model_spec.h"
#include "spec/tensor_table.h"
#include "tensor/tensor.h"

namespace moegen {

/// What an MlpSpec describes: an expert, a shared expert or a dense MLP. Gate and up may be views of one matrix.
struct MlpWeights {
  TensorView gate, up;  ///< [width, hidden]
  TensorView down;      ///< [hidden, width]
  TensorView gate_bias, up_bias, down_bias;
  MlpSpec::Activation activation = MlpSpec::Activation::silu;
  float clamp = 0;  ///< MlpSpec::clamp
};

/// Of linear attention. z is null where qkv has it beside q, k and v; a is null where b has it beside b.
struct DeltaWeights {
  TensorView qkv, z, b, a;  ///< [.., hidden]
  TensorView conv;          ///< [channels, 1, taps]
  TensorView a_log;         ///< [value_heads]
  TensorView dt_bias;       ///< [value_heads]
  TensorView norm;          ///< [value_dim]
};

/// Puts a tensor where it belongs: one of an expert, a shared expert or a dense MLP, scales and zero points behind what they are for.
void place(MlpWeights& mlp, const MlpSpec& spec, Role role, Part part, const TensorView& view);

/// Absent tensors have a null view.
struct LayerWeights {
  TensorView attention_norm, attention_norm_bias, q, k, v, q_bias, k_bias, v_bias, sinks, o, o_bias, q_norm, k_norm;
  TensorView q_a, q_a_norm, q_b, kv_a, kv_a_norm, kv_b;
  TensorView mlp_norm, mlp_norm_bias, router, router_logit_bias, router_bias, shared_router;
  TensorView router_norm, expert_scales, attention_out_norm, expert_norm, expert_out_norm, shared_out_norm, mlp_out_norm, layer_scale;
  MlpWeights dense, shared;
  DeltaWeights delta;
  std::vector<MlpWeights> experts;
};

/// The weights by what they are for. Views only.
struct ModelWeights {
  TensorView embedding, positions, final_norm, final_norm_bias, lm_head, lm_head_bias;
  std::vector<LayerWeights> layers;
};

/// `views` stand beside `table`, the table of `spec`.
[[nodiscard]] ModelWeights assign_weights(const ModelSpec& spec, std::span<const TensorSpec> table, std::span<const TensorView> views);

}  // namespace moegen
