#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spec/model_spec.h"

namespace moegen {

/// What a tensor is for. Matrices are [out, in].
enum class Role : uint8_t {
  embedding,  ///< [vocab, hidden]
  positions,  ///< [ModelSpec::positions, hidden]
  final_norm,
  final_norm_bias,  ///< [hidden]
  lm_head,          ///< [vocab, hidden]; absent where tied to the embedding
  lm_head_bias,     ///< [vocab]
  attention_norm,
  attention_norm_bias,  ///< [hidden]
  q,
  k,
  v,  ///< [q_outputs | kv_width, hidden]; q of latent attention without q_rank: [heads * (plain_dim + rope_dim), hidden]
  q_bias,
  k_bias,
  v_bias,
  q_a,            ///< [q_rank, hidden]
  q_a_norm,       ///< [q_rank]
  q_b,            ///< [heads * (plain_dim + rope_dim), q_rank]
  kv_a,           ///< [kv_rank + rope_dim, hidden]
  kv_a_norm,      ///< [kv_rank]
  kv_b,           ///< [heads * (plain_dim + v_dim), kv_rank]
  delta_qkv,      ///< [channels, hidden]; grouped: [channels + value_width, hidden]
  delta_z,        ///< [value_width, hidden], not where grouped
  delta_b,        ///< [value_heads, hidden]; grouped: [2 * value_heads, hidden]
  delta_a,        ///< [value_heads, hidden], not where grouped
  delta_conv,     ///< [channels, 1, taps]
  delta_a_log,    ///< [value_heads]
  delta_dt_bias,  ///< [value_heads]
  delta_norm,     ///< [value_dim]
  delta_out,      ///< [hidden, value_width]
  o,              ///< [hidden, o_width]
  o_bias,
  q_norm,
  k_norm,              ///< [head_dim], or [q_width], [kv_width] where the norm goes over the whole projection
  attention_out_norm,  ///< [hidden]: of what attention gives
  mlp_norm,
  mlp_norm_bias,      ///< [hidden]
  sinks,              ///< [heads]: logits
  router,             ///< [experts, hidden]
  router_logit_bias,  ///< [experts]: of the linear layer
  router_norm,        ///< [hidden]
  expert_scales,      ///< [experts]: of the weights
  router_bias,        ///< [experts]: what corrects the choice
  gate,
  up,            ///< [width, hidden], of an expert or of the dense MLP
  down,          ///< [hidden, width]
  gate_up,       ///< [2 width, hidden]: gate and up in one, their rows one after the other or in turn (MlpSpec::interleaved)
  gate_up_bias,  ///< [2, width]: gate's, up's; a vector in the file, interleaved as the matrix
  gate_bias,     ///< [width]
  down_bias,     ///< [hidden]
  shared_gate,
  shared_up,
  shared_down,
  shared_router,    ///< [1, hidden]: sigmoid of it weighs the shared expert
  expert_norm,      ///< [hidden]: of the experts' input
  expert_out_norm,  ///< [hidden]: of what all experts give
  shared_out_norm,  ///< [hidden]: of what the shared expert gives
  mlp_out_norm,     ///< [hidden]: of both together
  layer_scale,      ///< [1]
};

/// A quantised matrix [rows, cols] is several tensors, one behind the other in the table.
enum class Part : uint8_t {
  values,  ///< all of a plain tensor; or codes
  scales,  ///< [rows, groups]
  zeros,   ///< [rows, groups] zero points, as codes are
};

/// How a file has what is used as rows of [rows, cols].
enum class Form : uint8_t {
  rows,            ///< so
  turned,          ///< [cols, rows]
  words,           ///< [cols, rows / c] integers of c codes: of c neighbouring rows
  words_less_one,  ///< likewise, each code less one
  awq_words,       ///< likewise: of rows 0 2 4 6 1 3 5 7 of eight
  words_down,      ///< [rows / c, cols], of c neighbouring rows
  words_along,     ///< [cols / c, rows], of c neighbours in a row
  signed_bytes,    ///< [rows, cols], each byte less half of the codes
};

/// How a family calls a role; {L} and {E} stand for layer and expert. Of routed experts without {E} one tensor has all, [experts, ...].
struct TensorName {
  Role role;
  bool expert;  ///< of a routed expert, not of a dense MLP
  std::string_view pattern;
  bool turned = false;  ///< the file has it [in, out]
};

/// One tensor that a model must have.
struct TensorSpec {
  Role role = Role::embedding;
  int layer = -1;
  int expert = -1;
  std::string name;
  std::vector<int64_t> shape;
  std::vector<int64_t> file_shape;  ///< of the tensor called `name`
  int slice = -1;                   ///< which of the equal parts of that it is: experts may lie in one tensor; -1: all of it
  Part part = Part::values;
  Form form = Form::rows;
  int code_bits = 0;  ///< of what `form` packs
  /// What it is used in where it is quantised: f8_e4m3, where a checkpoint may still have it plain, or f4 and its scales' f8_e8m0, or i4 or u8; of
  /// scales in a plain type the one that is expected.
  std::optional<DType> quantised = std::nullopt;
  std::optional<DType> file_dtype = std::nullopt;  ///< the only one that is right, as safetensors knows it
  int64_t block_rows = 0;                          ///< f8_e4m3: so many rows,
  int64_t group = 0;                               ///< and so many neighbours in them share a scale
  bool order_beside = false;                       ///< X.g_idx is beside it, and has to be that of neighbouring groups
};

/// In its shape.
[[nodiscard]] uint64_t elements_of(const TensorSpec& spec);
/// What a checkpoint has it in as far as config.json tells, where `plain` is what is not quantised.
[[nodiscard]] inline DType expected_dtype(const TensorSpec& spec, DType plain) { return spec.quantised.value_or(plain); }

/// The type of a tensor of a checkpoint, if it has it.
using FindTensor = std::function<std::optional<DType>(const std::string& name)>;

/// All tensors of a model, in the order of computation. `split`: experts that the family has in one tensor are tensors of their own: checkpoints
/// of either kind are about. Which layers are quantised `find` decides, where it is given; else config.json says what is expected.
/// Throws Error(corrupt | unsupported) for a shape that cannot be quantised as config.json has it.
[[nodiscard]] std::vector<TensorSpec> tensor_table(const ModelSpec& spec, bool split = false, const FindTensor& find = nullptr);

/// What a tensor of a checkpoint would be called in one of a text model alone: "model.layers.0..", "lm_head.weight".
[[nodiscard]] std::string common_name(const ModelSpec& spec, std::string_view tensor);

/// Why a tensor that is in the checkpoint but not in the table may be passed over, or "" where it may not:
/// inverse frequencies that older checkpoints saved, an lm_head beside tied embeddings, layers that predict further tokens.
[[nodiscard]] std::string_view reason_to_skip(const ModelSpec& spec, std::string_view tensor);

}  // namespace moegen
