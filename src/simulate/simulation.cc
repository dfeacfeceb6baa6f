#include "simulate/simulation.h"

#include <algorithm>
#include <map>

#include "base/check.h"

namespace moegen {
namespace {

// Sequences of the workload as the scheduler wants them: tokens of no meaning, and no end but their length.
class Sequences {
 public:
  Sequences(const Workload& workload, int64_t max_len) : workload_(workload), max_len_(max_len) {}

  [[nodiscard]] bool ended() const { return next_ == workload_.requests.size(); }

  std::unique_ptr<Sequence> next() {
    const RequestLength& request = workload_.requests[next_++];
    auto s = std::make_unique<Sequence>();
    s->request = static_cast<int64_t>(next_);
    s->prompt_len = std::min<int64_t>(request.prompt_tokens, max_len_ - 1);
    s->tokens.reserve(static_cast<size_t>(s->prompt_len + request.output_tokens));
    s->tokens.assign(static_cast<size_t>(s->prompt_len), 0);
    std::shared_ptr<const Sampling>& sampling = of_length_[request.output_tokens];
    if (!sampling) {
      Sampling fresh;
      fresh.max_tokens = request.output_tokens;
      fresh.max_len = max_len_;
      sampling = std::make_shared<const Sampling>(std::move(fresh));
    }
    s->sampling = sampling;
    return s;
  }

 private:
  const Workload& workload_;
  int64_t max_len_;
  size_t next_ = 0;
  std::map<int32_t, std::shared_ptr<const Sampling>> of_length_;
};

}  // namespace

JobCost simulate_job(const Plan& plan, const PassCosts& costs, const Workload& workload,
                     const std::function<void(double, const PassLoad&, const PassCost&)>& look) {
  JobCost job;
  Scheduler scheduler(plan.sizes, plan.kv_pages);
  Sequences sequences(workload, plan.max_model_len);
  std::vector<std::unique_ptr<Sequence>> finished;
  for (;;) {
    while (scheduler.wants_more() && !sequences.ended()) scheduler.add(sequences.next());
    if (scheduler.idle()) break;
    const Pass pass = scheduler.schedule();
    const PassLoad load = load_of(pass);
    const PassCost cost = costs.of(load);
    if (look) look(job.seconds, load, cost);
    const auto num_sequences = static_cast<int64_t>(pass.sequences.size());
    job.most_sequences = std::max(job.most_sequences, num_sequences);
    job.most_pages = std::max(job.most_pages, scheduler.pages_used());
    ++job.passes;
    job.seconds += cost.seconds;
    job.sum.add(cost);
    job.prompt_tokens += scheduler.prefill_tokens();
    job.generated_tokens += static_cast<int64_t>(pass.logit_rows.size());
    const double tokens = load.decodes + load.prompt_tokens;
    if (tokens > 0) job.prompt_seconds += cost.seconds * static_cast<double>(scheduler.prefill_tokens()) / tokens;
    if (sequences.ended() && scheduler.num_waiting() == 0 && 2 * num_sequences < job.most_sequences) job.tail_seconds += cost.seconds;
    scheduler.commit(finished);
    finished.clear();
  }
  job.preemptions = scheduler.num_preemptions();
  return job;
}

}  // namespace moegen
