#include "api/pass_watch.h"

#include "base/log.h"

namespace moegen {

ResourceSeconds PassWatch::predict(const PassLoad& load) const {
  const PassCost cost = costs_.of(load);
  return {cost.seconds, cost.cpu, cost.storage, cost.wait};
}

std::optional<PassSizes> PassWatch::compare(const ResourceSeconds& predicted, const ResourceSeconds& measured) {
  const auto correction = rates_.add(predicted, measured);
  if (!correction || corrected_ || !model_.decision) return std::nullopt;
  corrected_ = true;
  const Machine machine = corrected(*model_.machine, *correction);
  const PassSizes sizes = choose_plan({model_.budget, &machine, &workload_, &model_.plan}).best.plan.sizes;
  const PassSizes& now = model_.plan.sizes;
  const bool same = sizes.pass_tokens == now.pass_tokens && sizes.sequences == now.sequences;
  log_line("passes differ from their prediction: the cores take {:.2f} times as long, the storage {:.2f}; {}", correction->cpu, correction->storage,
           same ? "the sizes stay" : fmt::format("from now on {} tokens of {} sequences a pass", sizes.pass_tokens, sizes.sequences));
  return sizes;
}

}  // namespace moegen
