#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "spec/quantisation.h"

namespace moegen {

/// How position enters queries and keys. Frequencies of pair i: theta^(-2i/dim), then scaled.
struct RopeSpec {
  enum class Scaling { none, linear, llama3, yarn, longrope, proportional };
  int dim = 0;  ///< rotated width of a head, its first `dim` values; even; 0: position does not enter
  double theta = 10000;
  Scaling scaling = Scaling::none;
  double factor = 1;
  double original_len = 0;                           ///< llama3, yarn: context of the first training
  double low_freq_factor = 1, high_freq_factor = 4;  ///< llama3
  double beta_fast = 32, beta_slow = 1;              ///< yarn
  double amplitude = 1;                              ///< cos and sin are multiplied by it (yarn's attention factor)
  bool truncate = true;                              ///< yarn: ramp borders rounded to whole pairs
  std::vector<double> divisors = {};                 ///< longrope: of each pair's frequency
  int pairs = 0;                                     ///< proportional: so many pairs are turned, slower by factor, the others not
  bool interleaved = false;                          ///< pairs are (2i, 2i + 1), not (i, i + dim/2)

  bool operator==(const RopeSpec&) const = default;
};

/// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1). What is kept of a token is its latent and one rotated key, which
/// all heads share; a head's key is [k_b latent | rotated key], its value v_b latent.
struct LatentSpec {
  int q_rank = 0;     ///< of the latent that queries come from; 0: they come from the hidden state
  int kv_rank = 0;    ///< of the latent that is kept; 0: this is no latent attention
  int plain_dim = 0;  ///< of a head's query and key, not rotated
  int rope_dim = 0;   ///< of a head's query, rotated
  int v_dim = 0;      ///< of a head's value

  bool operator==(const LatentSpec&) const = default;
};

/// Gated DeltaNet (arXiv 2412.06464): a linear attention. What is kept of a sequence has a fixed size: a state [key_dim, value_dim] for each
/// value head, and the last inputs of a short convolution. The value heads of a key head are neighbours.
struct DeltaSpec {
  int key_heads = 0;    ///< 0: this is no linear attention
  int value_heads = 0;  ///< a multiple of them
  int key_dim = 0;
  int value_dim = 0;
  int taps = 0;          ///< of the causal convolution over the channels of q, k and v; the last is the token itself
  bool grouped = false;  ///< the projection has q, k, v and z of a key head and its value heads side by side; else all q, all k, all v, all z

  [[nodiscard]] int group() const { return value_heads / key_heads; }
  [[nodiscard]] int key_width() const { return key_heads * key_dim; }
  [[nodiscard]] int value_width() const { return value_heads * value_dim; }
  [[nodiscard]] int channels() const { return 2 * key_width() + value_width(); }
  [[nodiscard]] int projected_width() const { return channels() + value_width() + 2 * value_heads; }  ///< q, k, v, z, b, a
  bool operator==(const DeltaSpec&) const = default;
};

/// Attention of one layer: grouped-query attention over paged K and V. Latent attention is computed in the absorbed form, which is that with
/// one KV head: its key is [latent | rotated key], its value the latent, a query [k_b^T q | rotated q].
/// Linear attention has value heads of value_dim and no KV heads.
struct AttentionSpec {
  /// RMSNorm on q and k; whole: over the projection, before the head split; plain: per head, without weights.
  enum class QkNorm { none, per_head, whole, plain };
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int window = 0;  ///< a query sees this many keys, itself included; 0: all
  int chunk = 0;   ///< a query sees keys of its own chunk of so many positions; 0: all
  bool qkv_bias = false;
  bool o_bias = false;
  bool sinks = false;  ///< each head has a learned logit more in its softmax, whose weight goes nowhere
  QkNorm qk_norm = QkNorm::none;
  bool v_norm = false;      ///< RMSNorm per head on v, without weights
  bool k_is_v = false;      ///< v is what k is before norm and rope: it has no weights
  bool rope_first = false;  ///< the norm comes after rope
  float clip_qkv = 0;       ///< q, k, v are clamped to [-c, c] after the norm; 0: not
  float scale = 0;          ///< of the scores
  float tuning = 0;         ///< a query at position p is multiplied by 1 + tuning * ln(1 + floor((p + 1) / tuning_step))
  float tuning_step = 1;
  bool output_gate = false;  ///< each head of q has a gate behind it, whose sigmoid multiplies what attention gives
  RopeSpec rope;
  LatentSpec latent;
  DeltaSpec delta;

  /// Keys that queries far from the beginning see, in the mean; 0: all.
  [[nodiscard]] int mean_window() const { return chunk > 0 ? (chunk + 1) / 2 : window; }
  [[nodiscard]] bool is_latent() const { return latent.kv_rank > 0; }
  [[nodiscard]] bool is_linear() const { return delta.key_heads > 0; }
  [[nodiscard]] int q_outputs() const { return output_gate ? 2 * q_width() : q_width(); }  ///< rows of q's weight
  [[nodiscard]] int q_width() const { return num_heads * head_dim; }
  [[nodiscard]] int kv_width() const { return num_kv_heads * head_dim; }
  [[nodiscard]] int value_dim() const { return is_latent() ? latent.kv_rank : head_dim; }  ///< that attention sums over
  [[nodiscard]] int o_width() const { return is_latent() ? num_heads * latent.v_dim : q_width(); }
  /// Elements that one token adds to the cache.
  [[nodiscard]] int cached_width() const { return is_latent() ? head_dim : 2 * kv_width(); }
  bool operator==(const AttentionSpec&) const = default;
};

/// Which experts a token goes to, and with what weights: scores of all, the best top_k by score (+ bias), their scores as weights.
struct RouterSpec {
  /// sparse_mixer: each of the k is the best of those left, its weight its softmax among those left that are near to it (arXiv 2409.12136).
  enum class Scores { softmax, sigmoid, sparse_mixer };
  Scores scores = Scores::softmax;
  bool correction_bias = false;  ///< added to a score where experts are chosen, not where it weighs
  static constexpr int kMaxGroups = 256;
  int num_groups = 1;          ///< neighbouring experts are a group,
  int top_groups = 1;          ///< of which so many are chosen from: those
  int group_best = 1;          ///< the sum of whose so many best is the largest
  bool renormalize = false;    ///< the k weights are divided by their sum
  float scaling = 1;           ///< and multiplied by this
  bool own_norm = false;       ///< it has its own norm of the hidden state
  bool expert_scales = false;  ///< weights are multiplied by one of the expert at last
  bool logit_bias = false;     ///< of the linear layer that scores come from
  bool weighs_input = false;   ///< the weight multiplies what goes into an expert, not what comes out
  float jitter = 0;            ///< sparse_mixer: near is a distance of at most 2 * jitter, relative

  bool operator==(const RouterSpec&) const = default;
};

/// The part of a layer behind the attention: a router and experts, or one dense MLP (num_experts == 0).
/// An MLP is down(silu(gate(x)) * up(x)), or with gelu in its tanh form for silu; a clamped one down(g * sigmoid(1.702 g) * (u + 1)), where g is
/// gate(x) up to `clamp`, and u up(x) between -clamp and clamp; with relu there is no up: down(relu(gate(x))).
struct MlpSpec {
  int num_experts = 0;
  int top_k = 0;
  int width = 0;  ///< of one expert, or of the dense MLP
  RouterSpec router;
  enum class Activation { silu, clamped_silu, gelu, relu };
  Activation activation = Activation::silu;
  float clamp = 0;           ///< clamped_silu
  bool bias = false;         ///< gate, up and down of experts, or of the dense MLP, have one
  bool interleaved = false;  ///< where gate and up are one tensor: its rows are gate's and up's in turn, not first gate's
  int shared_width = 0;      ///< of the shared expert; 0: none
  bool shared_gate = false;  ///< a sigmoid weighs it

  [[nodiscard]] bool dense() const { return num_experts == 0; }
  [[nodiscard]] bool has_up() const { return activation != Activation::relu; }
  bool operator==(const MlpSpec&) const = default;
};

/// A product of rows with a weight [outputs, k].
struct LinearShape {
  int64_t outputs = 0;
  int64_t k = 0;
  bool of_generated = false;  ///< tokens alone: latent attention expands keys and values for those of prompts
  bool operator==(const LinearShape&) const = default;
};
/// Those of a layer's attention, in their order. What latent attention does for each head is one of all heads together; neighbours of linear
/// attention, which have the same input, are one.
[[nodiscard]] std::vector<LinearShape> linears_of(const AttentionSpec& spec, int64_t hidden);

struct LayerSpec {
  AttentionSpec attention;
  MlpSpec mlp;
  /// What attention, experts and shared expert give is normed before it is added, and the whole scaled at last; the experts' input has
  /// its own norm (Gemma).
  bool branch_norms = false;
  bool operator==(const LayerSpec&) const = default;
};

/// A model as data: everything the engine knows about an architecture, from config.json.
struct ModelSpec {
  std::string family;  ///< "qwen3_moe"
  int hidden = 0;
  int vocab = 0;
  float norm_eps = 0;
  float norm_offset = 0;       ///< added to the weights of all norms but that of linear attention
  bool layer_norm = false;     ///< norms of the hidden state are LayerNorm, with a bias
  int64_t positions = 0;       ///< rows of a table of learned positions; 0: none
  int64_t first_position = 0;  ///< row of position 0
  float embedding_scale = 1;
  float residual_scale = 1;              ///< of what attention and MLP add to the hidden state
  bool embedding_scale_rounded = false;  ///< to the activation dtype
  float logit_scale = 1;
  float logit_cap = 0;     ///< logits are cap * tanh(logit / cap); 0: not
  bool head_bias = false;  ///< lm_head has one
  bool tied_embeddings = false;
  int64_t max_positions = 0;
  DType dtype = DType::bf16;  ///< what the checkpoint calls its own
  Quantisation quantisation;
  std::vector<LayerSpec> layers;
  int prediction_layers = 0;     ///< behind them in the checkpoint, not used: they predict further tokens (MTP)
  std::vector<int32_t> eos_ids;  ///< of config.json; generation_config.json may say otherwise

  /// embedding_scale, with activations of this type.
  [[nodiscard]] float embedding_scale_in(DType act) const {
    return embedding_scale_rounded && act == DType::bf16 ? to_float(to_bf16(embedding_scale)) : embedding_scale;
  }
};

}  // namespace moegen
