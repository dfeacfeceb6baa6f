#pragma once

#include <optional>
#include <vector>

#include "plan/machine.h"
#include "plan/plan.h"
#include "simulate/simulation.h"
#include "simulate/workload.h"

namespace moegen {

struct PlannerInput {
  PlanInput budget;  ///< what it sets stays as it is; the rest is the planner's to choose
  const Machine* machine = nullptr;
  const Workload* workload = nullptr;
  int64_t requests = 0;        ///< of the job, where the workload is only some that are like them all; 0: those of the workload
  const Plan* made = nullptr;  ///< memory is laid out for this one: only smaller passes and fewer sequences are to be chosen from
};

/// A plan and what the job would take with it.
struct PlannedJob {
  PlanInput input;  ///< with every choice filled in
  Plan plan;
  JobCost job;
};

/// The sizes that finish the whole job first, prompts, refill, decode with growing contexts and the tail included, among those that the
/// budgets allow. Each dimension is varied in turn (weights that stay, who attends and computes experts where there is a GPU, tokens of a pass,
/// sequences in flight, slots) until none gets better; jobs of many requests are simulated in part and continued at the rate they have then. Pure.
/// Throws what make_plan throws.
struct Decision {
  PlannedJob best;
  std::optional<PlannedJob> next;  ///< the best of those that differ by more than a hair
  int64_t tried = 0;
};
[[nodiscard]] Decision choose_plan(const PlannerInput& input);

}  // namespace moegen
