#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/functions.h"
#include "model/buffers.h"
#include "model/kv_layout.h"
#include "model/pass.h"
#include "model/weights.h"

namespace moegen {

/// What every step works with. Owns nothing.
struct StepContext {
  const ModelSpec& spec;
  const ModelWeights& weights;
  const Kernels& kernels;
  ThreadPool& pool;
  const KvLayout& kv;
  std::byte* kv_pages;  ///< page p begins at kv_pages + p * kv.page_bytes
  float* states;        ///< recurrent ones: [sequences, kv.state_floats]
  const Buffers& buffers;
  const PassSizes& sizes;
  const std::vector<std::vector<float>>& frequencies;  ///< of each distinct RopeSpec of the buffers
  DType act;                                           ///< activation dtype
};

/// Rows of a pass whose attention is computed together, and query blocks of theirs.
struct Wave {
  Range rows;
  Range blocks;
};

/// The layer steps, shared by all families. None of them allocates, starts threads or knows a model's name; each reads and
/// writes the buffers named in its comment (shapes: buffers.h). T = tokens of the pass.
/// @{

/// Positions, cos and sin, query blocks and the waves they are in: the first part of begin_pass.
void lay_out_pass(const StepContext& c, const Pass& pass);

/// tokens -> hidden [T, H]; positions, cos and sin, query blocks and the waves they are in.
void begin_pass(const StepContext& c, const Pass& pass);

/// Wave number `i` of a pass of T tokens.
Wave wave_of(const StepContext& c, int64_t num_tokens, int64_t i);

/// hidden -> normed, qkv -> q (normed, turned); keys and values -> their pages.
void project_qkv(const StepContext& c, const Pass& pass, size_t layer, const Wave& wave);

/// Its last part: qkv -> q; keys and values -> their pages. Of latent attention q has the absorbed queries of generated tokens already.
void place_qkv(const StepContext& c, const Pass& pass, size_t layer, const Wave& wave);

/// q, pages -> attended, for the sequences [first, last) of the pass as far as they are in the wave: one attention micro-batch.
void attend(const StepContext& c, const Pass& pass, size_t layer, const Wave& wave, int64_t first, int64_t last);

/// attended -> hidden += o(attended); hidden -> normed, by the MLP's norm.
void project_out(const StepContext& c, size_t layer, const Wave& wave);

/// normed -> chosen, weight; tokens sorted by expert: row_token, row_of, expert_begin.
void route(const StepContext& c, int64_t num_tokens, size_t layer);

/// normed -> y = mlp(normed), for all parts at once: an expert micro-batch. Their rows are at most sizes.expert_micro_batch.
void run_experts(const StepContext& c, std::span<const MlpRows> parts);

/// expert_out -> hidden += sum_j weight_j * out_j, in the order of `chosen`, which no plan changes.
void combine_experts(const StepContext& c, int64_t num_tokens, size_t layer);

/// normed -> hidden += mlp(normed), for tokens [first, last).
void run_dense(const StepContext& c, const MlpWeights& mlp, int64_t first, int64_t last);

/// normed -> hidden += mlp(normed), weighed by sigmoid(shared_router(normed)) where the layer has one, for tokens [first, last).
void run_shared(const StepContext& c, const LayerWeights& layer, int64_t first, int64_t last);

/// hidden += norm(branch); hidden *= the layer's scale. Only with branch_norms, where the steps above add to `branch`, not to `hidden`.
void finish_branches(const StepContext& c, int64_t num_tokens, size_t layer);

/// hidden of the rows -> logits [count, vocab]. count is at most sizes.logit_rows.
void compute_logits(const StepContext& c, const int32_t* rows, int64_t count);
/// @}

}  // namespace moegen
