#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "api/model.h"
#include "moegen/engine.h"
#include "plan/pass_cost.h"
#include "simulate/answer_lengths.h"
#include "simulate/rate_watch.h"

namespace moegen {

/// What the passes of a run were expected to take and its answers to be long, and what follows where they turn out to be otherwise.
class PassWatch {
 public:
  /// `model` has a machine, and outlives this.
  PassWatch(const ModelSetup& model, Workload workload);

  /// By the rates that were known when the run began.
  [[nodiscard]] ResourceSeconds predict(const PassLoad& load) const;

  struct Pass {
    PassLoad load;
    ResourceSeconds measured;
    int64_t finished = 0;  ///< answers, since the start
  };
  /// Where rates or lengths turn out to be others and the sizes were the planner's to choose: those chosen again, from what memory is there.
  /// `lengths`: of answers as far as they tell now; asked only where sizes may change.
  [[nodiscard]] std::optional<PassSizes> compare(const Pass& pass, const std::function<AnswerLengths()>& lengths);

 private:
  // A machine with the costs on it.
  struct Rates {
    Machine machine;
    PassCosts costs;
    Rates(const ModelSetup& model, Machine m) : machine(std::move(m)), costs(model.spec, machine, model.plan, model.units) {}
  };

  [[nodiscard]] bool answers_differ(const std::function<AnswerLengths()>& lengths);

  const ModelSetup& model_;
  Workload workload_;
  std::unique_ptr<Rates> planned_;
  std::unique_ptr<Rates> now_;
  RateWatch rates_;
  int64_t passes_ = 0;
  int64_t next_look_ = 16;  // at the lengths, in passes
  double planned_tokens_;   // that a request of the workload generates
};

}  // namespace moegen
