#pragma once

#include <optional>
#include <vector>

#include "simulate/answer_lengths.h"
#include "simulate/pass_fit.h"
#include "simulate/simulation.h"

namespace moegen {

/// How long the rest of a job takes: what is left is simulated with the engine's own scheduler from where it stands, each pass at the rates that
/// the passes so far have shown (PassFit), answers as long as those so far say (AnswerLengths), prompts that are not read yet as the workload
/// says, corrected by those that are. Not thread-safe.
class Outlook {
 public:
  /// `cost_of`: of a pass as predicted. `workload`: what is expected of the job, in its order; empty where nothing is known.
  Outlook(const Plan& plan, CostOf cost_of, Workload workload);

  /// A sequence that was made, one that ended, a pass that ran.
  /// @{
  void made(const Sequence& sequence);
  void ended(const Sequence& sequence);
  void passed(const PassLoad& load, double seconds);
  /// @}
  /// Seconds, where the scheduler has what it has and `to_come` further sequences are not made yet. Empty before the first pass, and where
  /// sequences will come of which nothing is known.
  [[nodiscard]] std::optional<double> seconds_left(const Scheduler& scheduler, int64_t to_come);
  /// What answers tell of their lengths, with those that still run.
  [[nodiscard]] AnswerLengths lengths(const Scheduler& scheduler) const;

 private:
  [[nodiscard]] Workload sequences_to_come(const Scheduler& scheduler, int64_t waiting, int64_t to_come, int64_t count) const;

  Plan plan_;
  CostOf cost_of_;
  Workload workload_;
  PassFit fit_;
  AnswerLengths lengths_;
  int64_t made_ = 0;
  double prompts_made_ = 0;      // tokens
  double prompts_expected_ = 0;  // of as many of the workload
};

}  // namespace moegen
