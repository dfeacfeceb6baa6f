#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "plan/cpu_experts.h"
#include "plan/model_work.h"

namespace moegen {

/// What a plan for a machine with a GPU is made from, beside the rest. An empty optional is the planner's to choose.
struct GpuInput {
  uint64_t device_memory = 0;
  uint64_t storage = 0;                    ///< that can hold weights; 0: none
  bool static_batches = false;             ///< GpuPlan's
  std::optional<uint64_t> device_weights;  ///< HBM for weights that stay there
  std::optional<double> cpu_attention_share;
  const Machine* cpu_experts = nullptr;  ///< the rates by which the CPU gets some of the experts; null: it gets none
};

/// Where weights and KV are, and who attends. Weights fill HBM, then DRAM, then the storage: those that every token meets first, then
/// experts, as many of each layer. Bytes.
struct GpuPlan {
  double cpu_attention_share = 0;  ///< omega: of the sequences whose KV is in host memory
  CpuExperts cpu_experts;          ///< of those whose weights are in host memory
  double device_weights = 0;
  double host_weights = 0;
  double storage_weights = 0;
  double ring = 0;              ///< HBM through which weights and KV come
  double host_ring = 0;         ///< DRAM through which weights of the storage come
  int64_t device_pages = 0;     ///< of KV, the first of Plan::kv_pages
  double back_tokens = 1;       ///< of K and V that go to host memory with a generated token
  bool static_batches = false;  ///< the published system's policy: batches that begin and end together, every expert copied in every pass
  std::vector<std::pair<std::string, uint64_t>> memory;  ///< of HBM: purpose, bytes
};

struct Plan;
struct PlanInput;

/// make_plan where there is a GPU.
[[nodiscard]] Plan make_gpu_plan(const PlanInput& input);

}  // namespace moegen
