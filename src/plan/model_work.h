#pragma once

#include <span>
#include <vector>

#include "plan/machine.h"
#include "spec/tensor_table.h"

namespace moegen {

/// What a layer weighs and computes. Bytes, FLOPs.
struct LayerWork {
  double fixed_bytes = 0;       ///< weights that every token meets: attention, norms, router, shared expert, or the MLP of a layer without experts
  double fixed_flops = 0;       ///< of a token with them
  double expert_bytes = 0;      ///< of all routed experts
  double expert_flops = 0;      ///< of a token in one of them
  double kv_bytes = 0;          ///< of a token
  double key_flops = 0;         ///< of a generated token's query and a key, all heads
  double prompt_key_flops = 0;  ///< of a prompt's
  double expansion_flops = 0;   ///< of a key that was there before a chunk of a prompt: latent attention makes it and its value again
  double query_bytes = 0;       ///< of a token's q, and of what attention makes of it
  MatrixFormat attention;       ///< of most of its matrices,
  MatrixFormat experts;         ///< of those of routed experts,
  MatrixFormat mlp;             ///< and of the dense MLP's or the shared expert's

  [[nodiscard]] bool same_formats(const LayerWork& other) const {
    return attention == other.attention && experts == other.experts && mlp == other.mlp;
  }
};

/// A model as far as the time of its passes depends on it, from its own tensor table: two FLOPs for every element of a matrix and token.
struct ModelWork {
  std::vector<LayerWork> layers;
  double embedding_bytes = 0;  ///< of which a pass reads its tokens' rows
  double head_bytes = 0;       ///< the embedding's again, where that is the head
  MatrixFormat head;

  [[nodiscard]] double fixed_bytes() const;  ///< of all layers and the head
  [[nodiscard]] double expert_bytes() const;
  /// The weights of all layers and the head take so many bytes, as coded ones do.
  void scale_weights(double bytes);
};

/// `table` is the tensor table of `spec`; `weights` is what is not quantised.
[[nodiscard]] ModelWork model_work(const ModelSpec& spec, std::span<const TensorSpec> table, DType weights, DType kv);

}  // namespace moegen
