#pragma once

#include <cstdint>
#include <functional>

#include "engine/scheduler.h"
#include "plan/pass_cost.h"
#include "simulate/workload.h"

namespace moegen {

/// A job on a virtual clock. Seconds, tokens.
struct JobCost {
  double seconds = 0;
  int64_t passes = 0;
  int64_t prompt_tokens = 0;  ///< computed: those of preempted sequences again
  int64_t generated_tokens = 0;
  double prompt_seconds = 0;  ///< of the passes, shared out by what the cores did
  double tail_seconds = 0;    ///< as in Progress
  int64_t most_sequences = 0;
  int64_t preemptions = 0;
  int64_t most_pages = 0;
  PassCost sum;  ///< of all passes
};

/// Runs the engine's own Scheduler over the workload, pass by pass, with the costs in place of a model. `look`, if any, sees each pass, with
/// the time it begins at.
[[nodiscard]] JobCost simulate_job(const Plan& plan, const PassCosts& costs, const Workload& workload,
                                   const std::function<void(double, const PassLoad&, const PassCost&)>& look = {});

}  // namespace moegen
