#pragma once

#include "kernels/functions.h"
#include "model/gpu_buffers.h"
#include "model/weights.h"

namespace moegen {

/// What every step on a GPU works with; all memory is the device's. Owns nothing.
struct GpuContext {
  const ModelSpec& spec;
  const ModelWeights& weights;  ///< views of device memory; the embedding is the host's
  Device& device;
  const Stream& stream;  ///< that computes
  const GpuBuffers& buffers;
  const PassSizes& sizes;
  DType act;
};

/// Where K and V of an attention micro-batch are staged, and its rows of the pass.
struct GpuMicroBatch {
  Range rows;
  const GpuRow* row = nullptr;  ///< of rows.begin
  const GpuTile* tiles = nullptr;
  int64_t num_tiles = 0, max_count = 1;
  std::byte* slots = nullptr;
  size_t slot_bytes = 0, head_bytes = 0;
  int64_t num_slots = 0;
  DType kv_dtype = DType::bf16;
};

/// The steps of model/steps.h, enqueued.
/// @{
/// embedded, positions -> hidden, for tokens whose embedding rows have been copied.
void gpu_embed(const GpuContext& c, int64_t num_tokens);
/// hidden -> normed, qkv, for rows of a wave; of latent attention also what queries are made of. What linear attention makes of it, in `attended`,
/// comes from the CPU.
void gpu_project_qkv(const GpuContext& c, size_t layer, Range wave);
/// qkv -> q, slots; q, slots -> attended.
void gpu_attend(const GpuContext& c, size_t layer, Range wave, const GpuMicroBatch& batch);
/// attended -> hidden += o(attended); hidden -> normed, unless the router has its own norm.
void gpu_project_out(const GpuContext& c, size_t layer, Range wave);
/// normed, or hidden where the router has its own norm -> chosen, weight, row_token, row_weight, row_of, expert_begin.
void gpu_route(const GpuContext& c, int64_t num_tokens, size_t layer);
/// Some of the rows sorted by expert -> expert_out. At most sizes.expert_micro_batch.
void gpu_run_expert(const GpuContext& c, const MlpWeights& mlp, int64_t num_tokens, size_t layer, Range rows);
/// What goes into experts, of some of the rows sorted by expert: normed, weighed where the router weighs it -> to [rows, H] act.
void gpu_gather_normed(const GpuContext& c, int64_t num_tokens, size_t layer, Range rows, void* to);
void gpu_combine_experts(const GpuContext& c, int64_t num_tokens, size_t layer);
/// normed -> hidden += mlp(normed), for tokens [first, last), at most sizes.expert_micro_batch.
void gpu_run_dense(const GpuContext& c, const MlpWeights& mlp, int64_t first, int64_t last);
void gpu_run_shared(const GpuContext& c, const LayerWeights& layer, int64_t first, int64_t last);
/// hidden += norm(branch); hidden *= the layer's scale. Only with branch_norms, where the steps above add to `branch`, not to `hidden`.
void gpu_finish_branches(const GpuContext& c, int64_t num_tokens, size_t layer);
/// hidden of logit_rows [first, first + count) -> logits.
void gpu_compute_logits(const GpuContext& c, int64_t num_tokens, int64_t first, int64_t count);
/// @}

}  // namespace moegen
