#pragma once

#include <cstdint>
#include <vector>

#include "memory/arena.h"
#include "model/weights.h"
#include "spec/model_spec.h"

namespace moegen {

/// The sizes that decide how much a pass needs. All are maxima.
struct PassSizes {
  int64_t pass_tokens = 0;
  int64_t sequences = 0;
  int64_t wave_tokens = 0;            ///< of which q, k, v and what attention gives are in memory at a time
  int64_t attention_micro_batch = 0;  ///< b_a, sequences
  int64_t expert_micro_batch = 0;     ///< b_e, tokens
  int64_t logit_rows = 0;             ///< rows whose logits are in memory at a time
  int64_t cpu_expert_rows = 0;        ///< of a pass on a GPU: that the CPU takes at a time for its experts; 0: it has none
  int64_t cpu_attention_rows = 0;     ///< likewise for its attention
  int64_t cpu_linear_rows = 0;        ///< likewise for linear attention, all of which it has: in two halves, in which rows come and are computed
  int page_tokens = 0;
  int threads = 0;
};

/// Work of one attention task: consecutive queries of one sequence, in one page and one wave.
struct QueryBlock {
  int32_t sequence = 0;  ///< of the pass
  int32_t first = 0;     ///< query within the sequence's tokens of this pass
  int32_t count = 0;
  bool prompt = false;  ///< of latent attention: all of them are tokens of a prompt, else all are generated ones
};

/// Consecutive tokens of a prompt in one wave, whose latent attention is computed in the expanded form by one task for each head.
struct PromptPart {
  int32_t sequence = 0;  ///< of the pass
  int32_t first = 0;     ///< query within the sequence's tokens of this pass
  int32_t count = 0;
  int32_t group = 0;  ///< parts of a group follow one another, and are one task
};

/// Prompts are taken apart where there are fewer tasks than so many for each thread.
constexpr int kPiecesPerThread = 4;
/// Pages that a task of the expanded form has at a time, beside their tokens' bound, kExpandedTokens.
constexpr int kExpandedPages = 8;

/// Of a head's key in the expanded form of latent attention.
[[nodiscard]] int64_t expanded_key_dim(const AttentionSpec& spec);
/// Elements of a token in the buffers `q` and `attended`.
[[nodiscard]] int64_t query_stride(const AttentionSpec& spec);
[[nodiscard]] int64_t attended_stride(const AttentionSpec& spec, DType act);

/// Tokens that go through one MLP together.
struct MlpRows {
  const MlpWeights* mlp = nullptr;
  const int32_t* rows = nullptr;  ///< their rows of `normed`, from `first` on, or null: the rows follow one another
  int64_t first = 0;
  int64_t count = 0;
  int64_t at = 0;                ///< first of the rows of `gate` that are theirs
  void* y = nullptr;             ///< [count, H], act
  const float* scale = nullptr;  ///< [count] of what goes into the MLP, or null: ones
};

/// Everything a pass writes, laid out once. T = pass_tokens, W = wave_tokens, H = hidden. "act" is the activation dtype. What attention, an MLP
/// and the logits need lies in the same place: a pass is in one of them at a time.
struct Buffers {
  /// Takes everything from `arena`; with a measuring arena all pointers are null.
  Buffers(Arena& arena, const ModelSpec& spec, DType act, const PassSizes& sizes);
  /// Of the arena that they take.
  static size_t bytes_needed(const ModelSpec& spec, DType act, const PassSizes& sizes);

  int64_t* positions = nullptr;            ///< [T]
  float* hidden = nullptr;                 ///< [T, H] the residual stream, float in every mode
  void* normed = nullptr;                  ///< [T, H] act
  float* branch = nullptr;                 ///< [T, H] with branch_norms: what is normed before it is added
  float* qkv = nullptr;                    ///< [W, q_width + 2 kv_width] before norm and rope; of latent attention [W, q_rank + kv_rank + rope_dim],
                                           ///< of linear attention [W, projected_width()]
  void* q_latent = nullptr;                ///< [W, q_rank] act
  void* heads = nullptr;                   ///< latent attention: [W, heads * (plain_dim + rope_dim)] act, before keys are absorbed; then [W, o_width]
  void* q = nullptr;                       ///< [W, query_stride()] act, of which [heads, head_dim] are used, or [heads, expanded_key_dim()] by a
                                           ///< prompt's tokens in latent attention
  float* sinks = nullptr;                  ///< [heads]
  void* attended = nullptr;                ///< [W, heads * value_dim] act; of latent attention [W, attended_stride()], which a prompt's tokens
                                           ///< have for [heads] attention_carry() floats
  void* kv_b = nullptr;                    ///< [heads, plain_dim + v_dim, kv_rank] act, of latent attention
  PromptPart* prompt_parts = nullptr;      ///< [sequences + 2 * kPiecesPerThread * threads] of an attention micro-batch
  std::vector<float*> rope_cos, rope_sin;  ///< for each distinct RopeSpec [T, dim/2]
  QueryBlock* query_blocks = nullptr;      ///< [3 * sequences + T / kPageTokens + T / W]
  int64_t* block_begin = nullptr;          ///< [sequences + 1]: query blocks of each sequence
  int64_t* wave_begin = nullptr;           ///< [ceil(T / W) + 1]: query blocks of each wave
  float* router_logits = nullptr;          ///< [T, E]
  float* router_bias = nullptr;            ///< [E]
  float* expert_scales = nullptr;          ///< [E]
  int32_t* chosen = nullptr;               ///< [T, k] experts of a token, best first
  float* weight = nullptr;                 ///< [T, k]
  int32_t* row_token = nullptr;            ///< [T * k] rows sorted by expert: token of a row
  float* row_weight = nullptr;             ///< [T * k] of the rows, where weights are for what goes into experts
  int32_t* row_of = nullptr;               ///< [T, k] row of a token's j-th expert
  int32_t* expert_begin = nullptr;         ///< [E + 1] first row of each expert
  void* expert_out = nullptr;              ///< [T * k, H] act
  void* gate = nullptr;                    ///< [b_e, width] act
  MlpRows* parts = nullptr;                ///< [E] room for the parts of an expert micro-batch
  void* shared_out = nullptr;              ///< [b_e, H] act
  float* shared_logit = nullptr;           ///< [b_e]
  void* logit_in = nullptr;                ///< [logit_rows, H] act
  float* logits = nullptr;                 ///< [logit_rows, vocab]
  float* scratch = nullptr;                ///< [threads, scratch_floats]
  int64_t scratch_floats = 0;
  std::vector<RopeSpec> ropes;  ///< the distinct ones
};

}  // namespace moegen
