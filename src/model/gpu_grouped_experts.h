#pragma once

#include <span>

#include "model/gpu_steps.h"

namespace moegen {

/// Whether the products of an expert of this form are GpuGroupedGemm: in bfloat16, with matrices that are too small for a GPU to be busy with one. It
/// depends on nothing else, so that a row's bits do not.
[[nodiscard]] bool gpu_groups(DType act, const MlpSpec& spec, const MlpWeights& expert);
/// Whether two experts differ in nothing but where they lie.
[[nodiscard]] bool same_format(const MlpWeights& a, const MlpWeights& b);
/// What GpuBuffers::expert_tables has of an expert; nothing of one that is not in device memory.
[[nodiscard]] GpuExpertWeights gpu_expert_weights(const MlpWeights& expert);

/// GpuGroupedGemm::num_tiles of rows that are sorted by expert, of which e has [begin[e], begin[e + 1]).
[[nodiscard]] int64_t gpu_group_tiles(std::span<const int32_t> begin, Range rows);

/// y [rows, hidden] = activation(x gate^T, x up^T) down^T, biases added, by way of `activated` [rows, width]. `op`: the rows, their x, whose they
/// are, and y; of experts of this form.
void gpu_multiply_experts(Device& device, const Stream& stream, const MlpWeights& form, const GpuGroupedGemm& op, void* activated);

/// Rows of those sorted by expert -> expert_out, of one expert, or of the layer's experts that stay in device memory, all in `resident` and of the
/// format of the first; `begin` is b.expert_begin, in host memory. At most sizes.expert_micro_batch.
/// @{
void gpu_run_grouped_expert(const GpuContext& c, const MlpWeights& expert, int64_t num_tokens, Range rows);
void gpu_run_grouped_experts(const GpuContext& c, size_t layer, int64_t num_tokens, Range rows, std::span<const int32_t> begin, Region resident);
/// @}

}  // namespace moegen
