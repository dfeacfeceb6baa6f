#include "api/pass_watch.h"

#include <algorithm>
#include <cmath>

#include "base/log.h"
#include "simulate/workload.h"

namespace moegen {
namespace {

constexpr double kOff = 0.15;

double mean_output(const Workload& workload) {
  return static_cast<double>(output_tokens(workload)) / static_cast<double>(std::max<size_t>(1, workload.requests.size()));
}

ResourceSeconds by_resource(const PassCost& cost) { return {cost.seconds, cost.cpu, cost.storage, cost.wait, cost.dram}; }

}  // namespace

PassWatch::PassWatch(const ModelSetup& model, Workload workload)
    : model_(model),
      workload_(std::move(workload)),
      planned_(std::make_unique<Rates>(model, *model.machine)),
      now_(std::make_unique<Rates>(model, *model.machine)),
      planned_tokens_(mean_output(workload_)) {}

ResourceSeconds PassWatch::predict(const PassLoad& load) const { return by_resource(planned_->costs.of(load)); }

// At pass 16, 32, 64, ..
bool PassWatch::answers_differ(const std::function<AnswerLengths()>& lengths) {
  if (++passes_ < next_look_ || workload_.requests.empty()) return false;
  next_look_ *= 2;
  const double tokens = mean_output(rest_of(workload_, static_cast<int64_t>(workload_.requests.size()), lengths()));
  if (std::abs(tokens / planned_tokens_ - 1) <= kOff) return false;
  log_line("answers are expected to have {:.0f} tokens on average, not {:.0f}", tokens, planned_tokens_);
  planned_tokens_ = tokens;
  return true;
}

std::optional<PassSizes> PassWatch::compare(const Pass& pass, const std::function<AnswerLengths()>& lengths) {
  const auto correction = rates_.add(by_resource(now_->costs.of(pass.load)), pass.measured);
  const bool lengths_differ = answers_differ(lengths);
  if (correction) {
    const std::string storage = model_.plan.weights.slots > 0 ? fmt::format(", the storage {:.2f}", correction->storage) : "";
    log_line("passes differ from their prediction: the cores take {:.2f} times as long{}", correction->cpu, storage);
    now_ = std::make_unique<Rates>(model_, corrected(now_->machine, *correction));
  }
  if (!model_.decision || (!correction && !lengths_differ)) return std::nullopt;
  const int64_t left = std::max<int64_t>(1, static_cast<int64_t>(workload_.requests.size()) - pass.finished);
  const Workload rest = rest_of(workload_, left, lengths());
  const PassSizes sizes = choose_plan({model_.budget, &now_->machine, &rest, &model_.plan}).best.plan.sizes;
  const PassSizes& first = model_.plan.sizes;
  if (sizes.pass_tokens == first.pass_tokens && sizes.sequences == first.sequences) {
    log_line("the sizes stay");
  } else {
    log_line("from now on {} tokens of {} sequences a pass", sizes.pass_tokens, sizes.sequences);
  }
  return sizes;
}

}  // namespace moegen
