#include "simulate/outlook.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "simulate/workload.h"

namespace moegen {
namespace {

int64_t limit_of(const Sequence& s) { return std::min(s.sampling->max_tokens, s.sampling->max_len - s.prompt_len); }

int32_t narrow(int64_t tokens) { return static_cast<int32_t>(std::clamp<int64_t>(tokens, 0, int64_t{1} << 30)); }

}  // namespace

Outlook::Outlook(const Plan& plan, CostOf cost_of, Workload workload)
    : plan_(plan),
      cost_of_(std::move(cost_of)),
      workload_(std::move(workload)),
      lengths_(workload_.requests.empty() ? AnswerLengths() : AnswerLengths(mean_output(workload_))) {}

void Outlook::made(const Sequence& s) {
  prompts_made_ += static_cast<double>(s.prompt_len);
  if (!workload_.requests.empty()) prompts_expected_ += workload_.requests[static_cast<size_t>(made_) % workload_.requests.size()].prompt_tokens;
  ++made_;
}

void Outlook::ended(const Sequence& s) {
  if (s.error.empty()) lengths_.add(s.num_generated(), s.finish_reason == FinishReason::stop);
}

void Outlook::passed(const PassLoad& load, double seconds) {
  if (load.decodes + load.prompt_tokens > 0) fit_.add(cost_of_(load).seconds, load, seconds);
}

AnswerLengths Outlook::lengths(const Scheduler& scheduler) const {
  AnswerLengths out = lengths_;
  for (const auto& s : scheduler.running()) out.add(s->num_generated(), false);
  return out;
}

// `count` of those that wait and those to come, evenly over both: the scheduler's own first.
Workload Outlook::sequences_to_come(const Scheduler& scheduler, int64_t waiting, int64_t to_come, int64_t count) const {
  const AnswerLengths lengths = this->lengths(scheduler);
  Workload out;
  const int64_t all = waiting + to_come;
  const auto wanted = [&](int64_t i) { return (i + 1) * count / all > i * count / all; };
  int64_t idx = 0;
  scheduler.for_each_waiting([&](const Sequence& s) {
    if (s.kept) return;  // it has begun
    if (wanted(idx)) {
      const int64_t length = lengths.length(s.num_generated(), limit_of(s), spread(idx));
      out.requests.push_back({narrow(static_cast<int64_t>(s.tokens.size())), narrow(std::max<int64_t>(limit_of(s) > 0, length - s.num_generated()))});
    }
    ++idx;
  });
  const double scale = prompts_expected_ > 0 ? std::clamp(prompts_made_ / prompts_expected_, 0.05, 20.0) : 1;
  for (; idx < all; ++idx) {
    if (!wanted(idx)) continue;
    const RequestLength& r = workload_.requests[static_cast<size_t>(made_ + idx - waiting) % workload_.requests.size()];
    const int64_t length = lengths.length(0, r.output_tokens, spread(idx));
    out.requests.push_back({std::max(1, narrow(std::llround(scale * r.prompt_tokens))), narrow(std::max<int64_t>(r.output_tokens > 0, length))});
  }
  return out;
}

std::optional<double> Outlook::seconds_left(const Scheduler& scheduler, int64_t to_come) {
  if (fit_.empty() || (to_come > 0 && workload_.requests.empty())) return std::nullopt;
  fit_.solve();
  plan_.sizes = scheduler.sizes();
  const AnswerLengths lengths = this->lengths(scheduler);
  std::vector<BegunRequest> begun;
  const auto add = [&](const Sequence& s) {
    const int64_t length = lengths.length(s.num_generated(), limit_of(s), spread(static_cast<int64_t>(begun.size())));
    begun.push_back({{narrow(static_cast<int64_t>(s.tokens.size())), narrow(std::max<int64_t>(1, length - s.num_generated()))}, s.computed});
  };
  for (const auto& s : scheduler.running()) add(*s);
  const auto running = std::ssize(begun);
  scheduler.for_each_waiting([&](const Sequence& s) {
    if (s.kept) add(s);
  });
  const int64_t waiting = scheduler.num_waiting() - (std::ssize(begun) - running);
  Workload some;
  const Requests requests{waiting + to_come, [&](int64_t count) -> const Workload& {
                            some = count > 0 ? sequences_to_come(scheduler, waiting, to_come, count) : Workload{};
                            return some;
                          }};
  const CostOf cost = [this](const PassLoad& load) {
    PassCost out = cost_of_(load);
    out.seconds = fit_.seconds(out.seconds, load);
    return out;
  };
  return simulate_long_job(plan_, cost, requests, begun).seconds;
}

}  // namespace moegen
