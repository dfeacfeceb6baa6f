#include "api/pass_watch.h"

#include <algorithm>
#include <cmath>

#include "base/log.h"
#include "simulate/workload.h"

namespace moegen {
namespace {

constexpr double kOff = 0.15;

}  // namespace

PassWatch::PassWatch(const ModelSetup& model, const Workload& some, int64_t count)
    : model_(model),
      some_(some),
      count_(count),
      machine_(*model.machine),
      planned_(cost_of_passes(model.budget, *model.machine, model.plan)),
      now_(planned_),
      planned_tokens_(mean_output(some)) {}

// What a GPU and its link do is not measured apart.
ResourceSeconds PassWatch::by_resource(const PassCost& cost) const {
  if (model_.gpu) return {cost.seconds, 0, cost.storage, 0, 0};
  return {cost.seconds, cost.cpu, cost.storage, cost.wait, cost.dram};
}

// At pass 16, 32, 64, ..
bool PassWatch::answers_differ(const std::function<AnswerLengths()>& lengths) {
  if (++passes_ < next_look_ || planned_tokens_ <= 0) return false;
  next_look_ *= 2;
  const double tokens = mean_output(with_lengths(some_, lengths()));
  if (std::abs(tokens / planned_tokens_ - 1) <= kOff) return false;
  log_line("answers are expected to have {:.0f} tokens on average, not {:.0f}", tokens, planned_tokens_);
  planned_tokens_ = tokens;
  return true;
}

std::optional<PassSizes> PassWatch::compare(const Pass& pass, const std::function<AnswerLengths()>& lengths) {
  if (model_.gpu) return std::nullopt;
  const auto correction = rates_.add(by_resource(now_(pass.load)), pass.measured);
  const bool lengths_differ = answers_differ(lengths);
  if (correction) {
    const std::string storage = model_.plan.weights.slots > 0 ? fmt::format(", the storage {:.2f}", correction->storage) : "";
    log_line("passes differ from their prediction: the cores take {:.2f} times as long{}", correction->cpu, storage);
    machine_ = corrected(machine_, *correction);
    now_ = cost_of_passes(model_.budget, machine_, model_.plan);
  }
  if (!model_.decision || (!correction && !lengths_differ)) return std::nullopt;
  const Workload expected = with_lengths(some_, lengths());
  const int64_t left = std::max<int64_t>(1, count_ - pass.finished);
  const PassSizes sizes = choose_plan({model_.budget, &machine_, &expected, left, &model_.plan}).best.plan.sizes;
  const PassSizes& first = model_.plan.sizes;
  if (sizes.pass_tokens == first.pass_tokens && sizes.sequences == first.sequences) {
    log_line("the sizes stay");
  } else {
    log_line("from now on {} tokens of {} sequences a pass", sizes.pass_tokens, sizes.sequences);
  }
  return sizes;
}

}  // namespace moegen
