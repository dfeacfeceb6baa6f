#pragma once

#include <functional>
#include <optional>

#include "api/model.h"
#include "moegen/engine.h"
#include "simulate/answer_lengths.h"
#include "simulate/rate_watch.h"

namespace moegen {

/// What the passes of a run were expected to take and its answers to be long, and what follows where they turn out to be otherwise.
class PassWatch {
 public:
  /// `model` has a machine; `some` are requests of the job like all `count` of them, none where nothing is known. Both outlive this.
  PassWatch(const ModelSetup& model, const Workload& some, int64_t count);

  /// By the rates that were known when the run began.
  [[nodiscard]] ResourceSeconds predict(const PassLoad& load) const { return by_resource(planned_(load)); }

  struct Pass {
    PassLoad load;
    ResourceSeconds measured;
    int64_t finished = 0;  ///< answers, since the start
  };
  /// Where rates or lengths turn out to be others and the sizes were the planner's to choose: those chosen again, from what memory is there. On a
  /// GPU they stay.
  /// `lengths`: of answers as far as they tell now; asked only where sizes may change.
  [[nodiscard]] std::optional<PassSizes> compare(const Pass& pass, const std::function<AnswerLengths()>& lengths);

 private:
  [[nodiscard]] ResourceSeconds by_resource(const PassCost& cost) const;
  [[nodiscard]] bool answers_differ(const std::function<AnswerLengths()>& lengths);

  const ModelSetup& model_;
  const Workload& some_;
  int64_t count_;
  Machine machine_;  // as it turns out to be
  CostOf planned_;
  CostOf now_;  // on machine_
  RateWatch rates_;
  int64_t passes_ = 0;
  int64_t next_look_ = 16;  // at the lengths, in passes
  double planned_tokens_;   // that a request generates
};

}  // namespace moegen
