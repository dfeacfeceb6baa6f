#pragma once

#include <cstdint>
#include <optional>

#include "api/model.h"
#include "simulate/outlook.h"

namespace moegen {

/// When a run will be done, looked at from time to time: looking takes no more than a hundredth of the run.
class JobWatch {
 public:
  /// `model` outlives this. Where the machine's rates are not known, passes are first taken to be those of a machine that is usual, until
  /// they show what they take.
  JobWatch(const ModelSetup& model, const Workload& workload);

  void taken() { ++requests_taken_; }
  void made(const Sequence& sequence);
  void ended(const Sequence& sequence) { outlook_.ended(sequence); }
  void passed(const PassLoad& load, double seconds) { outlook_.passed(load, seconds); }
  /// Whether it is time to look again, so many seconds after the start.
  [[nodiscard]] bool due(double seconds) const { return seconds >= next_look_; }
  /// `requests_left`: of the source; empty: not known.
  [[nodiscard]] std::optional<double> seconds_left(const Scheduler& scheduler, std::optional<int64_t> requests_left, double now);
  [[nodiscard]] AnswerLengths lengths(const Scheduler& scheduler) const { return outlook_.lengths(scheduler); }

 private:
  Machine machine_;
  Outlook outlook_;
  int64_t requests_taken_ = 0;
  int64_t sequences_made_ = 0;
  double next_look_ = 0;
};

}  // namespace moegen
