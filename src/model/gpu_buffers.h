#pragma once

#include <cstdint>
#include <vector>

#include "kernels/gpu_functions.h"
#include "model/buffers.h"
#include "model/kv_groups.h"

namespace moegen {

/// Lays things out in device memory, aligned to 256 bytes; without memory it only measures. As Arena.
class DeviceArena {
 public:
  explicit DeviceArena(void* memory = nullptr) : memory_(static_cast<std::byte*>(memory)) {}
  std::byte* take_bytes(size_t bytes);
  template <typename T>
  T* take(int64_t count) {
    return reinterpret_cast<T*>(take_bytes(static_cast<size_t>(count) * sizeof(T)));
  }
  [[nodiscard]] size_t at() const { return at_; }
  void rewind(size_t at) { at_ = at; }
  void skip() { at_ = used_; }
  [[nodiscard]] size_t used() const { return used_; }

 private:
  std::byte* memory_;
  size_t at_ = 0, used_ = 0;
};

/// How far the queries of a model's layers see, the distinct ones, and which of them a layer has: it decides which pages of a sequence are staged.
[[nodiscard]] std::vector<KvGroup> reaches_of(const ModelSpec& spec);
[[nodiscard]] size_t reach_of(const std::vector<KvGroup>& reaches, const AttentionSpec& a);

/// Everything that a pass writes in device memory, laid out once; T, W, H and act as in Buffers. What attention, an MLP and the logits need lies in
/// the same place.
struct GpuBuffers {
  /// Takes everything from `arena`; with a measuring arena all pointers are null. `expanded_elements`: of the largest weight that has to be expanded.
  GpuBuffers(DeviceArena& arena, const ModelSpec& spec, DType act, const PassSizes& sizes, int64_t expanded_elements);

  float* hidden = nullptr;                 ///< [T, H]
  void* normed = nullptr;                  ///< [T, H] act
  float* branch = nullptr;                 ///< [T, H] with branch_norms
  std::vector<float*> rope_cos, rope_sin;  ///< for each distinct RopeSpec [T, dim / 2]
  std::vector<GpuRow*> rows;               ///< for each distinct KvGroup [T]
  std::vector<GpuTile*> tiles;             ///< likewise [T]
  int32_t* logit_rows = nullptr;           ///< [T]
  /// For each layer [E], where its experts lie that stay in device memory; where act is bf16. Null of dense layers.
  std::vector<GpuExpertWeights*> expert_tables;
  int32_t* positions = nullptr;  ///< [T] rows of the table of learned positions, where there is one

  /// Rows on their way to the CPU and back. R = cpu_expert_rows, A = cpu_attention_rows; strides as the CPU's Buffers have them.
  /// @{
  void* handed_normed = nullptr;    ///< [R, H] act
  int32_t* handed_rows = nullptr;   ///< [T] rows of their wave whose attention the CPU has
  float* handed_qkv = nullptr;      ///< [A, as qkv]
  void* handed_q = nullptr;         ///< [A, query_stride()] act, of latent attention
  void* handed_heads = nullptr;     ///< [A, as heads] act
  void* handed_attended = nullptr;  ///< [A, attended_stride()] act, on its way back
  /// @}

  float* expanded = nullptr;  ///< the weight that is not stored as it is multiplied
  float* widened = nullptr;   ///< what is multiplied with weights in float, where act is bf16

  void* embedded = nullptr;  ///< [T, H] rows of the embedding as it is stored, up to 4 bytes an element

  float* qkv = nullptr;      ///< as Buffers
  void* q = nullptr;         ///< [W, q_width] act
  void* attended = nullptr;  ///< [W, heads * value_dim] act
  void* q_latent = nullptr;  ///< [W, q_rank] act
  void* heads = nullptr;     ///< as Buffers
  float* sinks = nullptr;    ///< [heads]

  float* router_logits = nullptr;   ///< [T, E]
  int32_t* chosen = nullptr;        ///< [T, k]
  float* weight = nullptr;          ///< [T, k]
  int32_t* row_token = nullptr;     ///< [T * k]
  float* row_weight = nullptr;      ///< [T * k] where weights are for what goes into experts
  int32_t* row_of = nullptr;        ///< [T, k]
  int32_t* sort_counts = nullptr;   ///< GpuSort::counts
  int32_t* expert_begin = nullptr;  ///< [E + 1]
  void* expert_out = nullptr;       ///< [T * k, H] act
  void* gathered = nullptr;         ///< [b_e, H] act
  float* gate = nullptr;            ///< [b_e, width]
  float* up = nullptr;              ///< [b_e, width]
  void* activated = nullptr;        ///< [b_e, width] act
  float* down = nullptr;            ///< [b_e, H] where experts have biases
  void* shared_out = nullptr;       ///< [b_e, H] act
  float* shared_logit = nullptr;    ///< [b_e]

  void* logit_in = nullptr;              ///< [logit_rows, H] act
  float* logits = nullptr;               ///< [logit_rows, vocab]
  LogitQuery* queries = nullptr;         ///< [logit_rows]
  GpuSegment* segments = nullptr;        ///< GpuSummarize::segments
  LogitSummary* summaries = nullptr;     ///< [logit_rows]
  LogitCandidate* candidates = nullptr;  ///< [logit_rows, kLogitCandidates]

  std::vector<RopeSpec> ropes;
  std::vector<KvGroup> reaches;
};

/// Of the arena that they take.
[[nodiscard]] size_t gpu_buffer_bytes(const ModelSpec& spec, DType act, const PassSizes& sizes, int64_t expanded_elements);

}  // namespace moegen
