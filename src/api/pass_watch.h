#pragma once

#include <optional>

#include "api/model.h"
#include "moegen/engine.h"
#include "plan/pass_cost.h"
#include "simulate/rate_watch.h"

namespace moegen {

/// What the passes of a run were expected to take, and what follows where they take something else.
class PassWatch {
 public:
  /// `model` has a machine, and outlives this.
  PassWatch(const ModelSetup& model, Workload workload)
      : model_(model), workload_(std::move(workload)), costs_(model.spec, *model.machine, model.plan, model.units) {}

  [[nodiscard]] ResourceSeconds predict(const PassLoad& load) const;
  /// Once, where rates turn out to be others and the sizes were the planner's to choose: those chosen again, from what memory is there.
  [[nodiscard]] std::optional<PassSizes> compare(const ResourceSeconds& predicted, const ResourceSeconds& measured);

 private:
  const ModelSetup& model_;
  Workload workload_;
  PassCosts costs_;
  RateWatch rates_;
  bool corrected_ = false;
};

}  // namespace moegen
