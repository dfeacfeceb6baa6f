#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "engine/scheduler.h"
#include "plan/pass_cost.h"
#include "simulate/workload.h"

namespace moegen {

/// A job on a virtual clock. Seconds, tokens.
struct JobCost {
  double seconds = 0;
  int64_t passes = 0;
  int64_t prompt_tokens = 0;  ///< computed: those of sequences that are computed again twice
  int64_t generated_tokens = 0;
  double prompt_seconds = 0;  ///< of the passes, shared out by their tokens
  double tail_seconds = 0;    ///< as in Progress
  int64_t most_sequences = 0;
  double swap_seconds = 0;  ///< that a disk took for preempted sequences; in no pass
  int64_t preemptions = 0;
  int64_t recomputed = 0;  ///< of these
  int64_t failed = 0;      ///< requests that the context or the KV pages cannot hold
  PassCost sum;            ///< of all passes

  void add(const JobCost& other, double times = 1);  ///< += other x times; maxima stay
};

/// What a pass costs.
using CostOf = std::function<PassCost(const PassLoad&)>;
/// PassCosts; or GpuPassCosts, where the plan is for a GPU and the machine has one. All must outlive it.
[[nodiscard]] CostOf cost_of_passes(const PlanInput& budget, const Machine& machine, const Plan& plan);
/// Sees a pass, with the time it begins at; false ends the simulation.
using LookAtPass = std::function<bool(double, const PassLoad&, const PassCost&)>;

/// A sequence in the middle of its way.
struct BegunRequest {
  RequestLength left;    ///< `prompt_tokens`: all that it has, those that it generated included; `output_tokens`: still to come, 1 at least
  int64_t computed = 0;  ///< of what it has, in KV pages already
};

/// Runs the engine's own Scheduler over the workload, pass by pass, with the costs in place of a model; `begun` before it.
[[nodiscard]] JobCost simulate_job(const Plan& plan, const CostOf& cost_of, const Workload& workload, const LookAtPass& look = {},
                                   std::span<const BegunRequest> begun = {});

/// The requests of a job that may be long.
struct Requests {
  int64_t count = 0;
  std::function<const Workload&(int64_t)> some;  ///< so many that are spread as all are; valid until the next call
};
/// The same for long jobs, and for many sequences in flight, in bounded time. Many sequences are simulated as fewer that stand for several each;
/// of a long job two parts, the second twice the first: what it took more is the rate at which the rest goes on.
[[nodiscard]] JobCost simulate_long_job(const Plan& plan, const CostOf& cost_of, const Requests& requests, std::span<const BegunRequest> begun = {});

/// The published system's way: as many requests as the pages hold are padded to the longest, their prompts computed, pass after pass, and then
/// one token of each in every pass, until all have all of theirs. Throws Error(out_of_memory) where the pages do not hold one.
[[nodiscard]] JobCost simulate_static_batches(const Plan& plan, const CostOf& cost_of, const Workload& workload, const LookAtPass& look = {});

}  // namespace moegen
