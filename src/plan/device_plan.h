#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "model/buffers.h"
#include "plan/machine.h"
#include "plan/weight_plan.h"

namespace moegen {

struct Plan;
struct PlanInput;

/// What a run on a GPU is planned from, beside the rest.
struct DeviceBudget {
  uint64_t memory = 0;                       ///< of the device that the run may take
  uint64_t overhead = 0;                     ///< Device::overhead(), of that
  std::span<const WeightUnit> units;         ///< that can stream, with sizes as in device memory; in the order of computation
  uint64_t weight_bytes = 0;                 ///< of all weights in device memory
  int64_t expanded_elements = 0;             ///< GpuBuffers'
  const Machine* machine = nullptr;          ///< its rates; null: not known
  std::optional<int64_t> cpu_expert_tokens;  ///< CpuExperts::most_tokens; empty: balanced, where the link's rate is known, else 0

  [[nodiscard]] uint64_t room() const { return memory - std::min(memory, overhead); }
};

/// How device memory is divided, beside Plan::gpu. Plan::weights says which of the weights that do not stay on the device come from storage, for host
/// memory does not hold them.
struct DevicePlan {
  WeightPlan weights;       ///< which stay in device memory, and the ring of slots for the others that are in host memory
  int64_t stage_slots = 0;  ///< pages of a layer that can be staged at a time, twice: while attention has some, others come
  size_t stage_slot_bytes = 0;
  uint64_t stored_slot_bytes = 0;  ///< of the slot for experts of Plan::weights, which come from storage; 0: there are none
  size_t buffer_bytes = 0;
};

/// Sizes of what the CPU takes of a pass on a GPU.
[[nodiscard]] PassSizes cpu_sizes(const PassSizes& sizes);

/// make_plan for a run on a GPU: host memory has the weights and KV pages. Pure. Throws Error(out_of_memory) with the numbers where device or
/// host memory do not hold the least.
[[nodiscard]] Plan make_device_plan(const PlanInput& input, const DeviceBudget& device);

}  // namespace moegen
