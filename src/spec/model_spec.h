#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace moegen {

/// How position enters queries and keys. Frequencies of pair i: theta^(-2i/dim), then scaled.
struct RopeSpec {
  enum class Scaling { none, linear, llama3, yarn };
  int dim = 0;  ///< rotated width of a head, its first `dim` values; even
  double theta = 10000;
  Scaling scaling = Scaling::none;
  double factor = 1;
  double original_len = 0;                           ///< llama3, yarn: context of the first training
  double low_freq_factor = 1, high_freq_factor = 4;  ///< llama3
  double beta_fast = 32, beta_slow = 1;              ///< yarn
  double amplitude = 1;                              ///< cos and sin are multiplied by it (yarn's attention factor)
  bool truncate = true;                              ///< yarn: ramp borders rounded to whole pairs

  bool operator==(const RopeSpec&) const = default;
};

/// Attention of one layer: grouped-query attention over paged K and V.
/// MLA and linear attention will be further kinds beside these fields, each with its own layer step (docs/architecture.md).
struct AttentionSpec {
  enum class QkNorm { none, per_head, whole };  ///< RMSNorm on q and k before rope; whole: over the projection, before the head split
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int window = 0;  ///< a query sees this many keys, itself included; 0: all
  bool qkv_bias = false;
  bool o_bias = false;
  QkNorm qk_norm = QkNorm::none;
  float clip_qkv = 0;  ///< q, k, v are clamped to [-c, c] after the norm; 0: not
  float scale = 0;     ///< of the scores
  RopeSpec rope;

  [[nodiscard]] int q_width() const { return num_heads * head_dim; }
  [[nodiscard]] int kv_width() const { return num_kv_heads * head_dim; }
  bool operator==(const AttentionSpec&) const = default;
};

/// The part of a layer behind the attention: a router and experts, or one dense MLP (num_experts == 0).
/// An MLP is down(silu(gate(x)) * up(x)).
struct MlpSpec {
  int num_experts = 0;
  int top_k = 0;
  int width = 0;             ///< of one expert, or of the dense MLP
  bool renormalize = false;  ///< the k chosen softmax weights are divided by their sum
  int shared_width = 0;      ///< shared expert, sigmoid-gated; 0: none

  [[nodiscard]] bool dense() const { return num_experts == 0; }
  bool operator==(const MlpSpec&) const = default;
};

struct LayerSpec {
  AttentionSpec attention;
  MlpSpec mlp;
  bool operator==(const LayerSpec&) const = default;
};

/// How a checkpoint has its linear layers, but for those of routers and of the head: as numbers, or as e4m3 in blocks of 128 x 128 with a
/// float each (`weight_scale_inv`), by which they are multiplied.
enum class Quantisation : uint8_t { none, f8_blocks };

/// A model as data: everything the engine knows about an architecture, from config.json.
struct ModelSpec {
  std::string family;  ///< "qwen3_moe"
  int hidden = 0;
  int vocab = 0;
  float norm_eps = 0;
  bool tied_embeddings = false;
  int64_t max_positions = 0;
  DType dtype = DType::bf16;  ///< what the checkpoint calls its own
  Quantisation quantisation = Quantisation::none;
  std::vector<LayerSpec> layers;
  std::vector<int32_t> eos_ids;  ///< of config.json; generation_config.json may say otherwise
};

/// KV values (elements, K and V) that one token adds to one layer.
[[nodiscard]] inline int64_t kv_width(const LayerSpec& layer) { return 2 * static_cast<int64_t>(layer.attention.kv_width()); }

}  // namespace moegen
