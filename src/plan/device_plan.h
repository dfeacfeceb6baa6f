#pragma once

#include <string>
#include <utility>
#include <vector>

#include "plan/weight_plan.h"

namespace moegen {

struct Plan;
struct PlanInput;

/// What a run on a GPU is planned from, beside the rest.
struct DeviceBudget {
  uint64_t memory = 0;                ///< of the device that the run may take
  std::span<const WeightUnit> units;  ///< that can stream, with sizes as in device memory; in the order of computation
  uint64_t weight_bytes = 0;          ///< of all weights in device memory
  int64_t expanded_elements = 0;      ///< GpuBuffers'
};

/// How device memory is divided. Plan::weights is empty then: all weights are in host memory.
struct DevicePlan {
  WeightPlan weights;       ///< which stay in device memory, and the ring of slots for the others
  int64_t stage_slots = 0;  ///< pages of a layer that can be staged at a time, twice: while attention has some, others come
  size_t stage_slot_bytes = 0;
  size_t buffer_bytes = 0;
  std::vector<std::pair<std::string, uint64_t>> memory;  ///< purpose, bytes
};

/// A plan for a GPU that computes all: host memory has the weights and KV pages. Pure. Throws Error(out_of_memory) with the numbers where device or
/// host memory do not hold the least.
[[nodiscard]] Plan make_device_plan(const PlanInput& input, const DeviceBudget& device);

}  // namespace moegen
