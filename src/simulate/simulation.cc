#include "simulate/simulation.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "plan/gpu_pass_cost.h"

namespace moegen {
namespace {

constexpr int64_t kPartRequests = 10;    // of a long job, times the sequences that can be in flight, are simulated to know its rate
constexpr int64_t kPartOfAlike = 4;      // where each of them stands for many
constexpr int64_t kMostSimulated = 256;  // sequences in flight; of more, each stands for so many that are alike

// Sequences of the workload as the scheduler wants them: tokens of no meaning, and no end but their length.
class Sequences {
 public:
  Sequences(const Workload& workload, int64_t max_len) : workload_(workload), max_len_(max_len) {}

  [[nodiscard]] bool ended() const { return next_ == workload_.requests.size(); }

  /// Null for a request that the context does not hold.
  std::unique_ptr<Sequence> next() {
    const RequestLength& request = workload_.requests[next_++];
    return request.prompt_tokens < max_len_ ? make(request) : nullptr;
  }

  std::unique_ptr<Sequence> make(const RequestLength& request) {
    auto s = std::make_unique<Sequence>();
    s->prompt_len = std::min<int64_t>(request.prompt_tokens, max_len_ - 1);
    s->tokens.reserve(static_cast<size_t>(std::min(max_len_, s->prompt_len + request.output_tokens)));
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

// The time that a disk takes for those that are preempted.
class SimulatedSwap : public SequenceStore {
 public:
  SimulatedSwap(const Plan& plan, const JobCost& job) : plan_(plan), job_(job) {}

  bool keep(const Sequence& sequence) override {
    const auto bytes = static_cast<double>(memory_of(sequence, plan_.kv));
    if (used_ + bytes > static_cast<double>(plan_.swap.bytes)) return false;
    const auto tokens = static_cast<double>(std::max<int64_t>(1, job_.prompt_tokens + job_.generated_tokens));
    const double again = static_cast<double>(sequence.computed) * job_.sum.seconds / tokens;
    if (!plan_.swap.always && 2 * bytes / plan_.swap.bandwidth > again) return false;
    kept_.push_back(bytes);
    used_ += bytes;
    moved_ += bytes;
    return true;
  }
  bool bring_back(const Sequence& /*sequence*/) override {
    moved_ += kept_.back();
    drop();
    return true;
  }
  void drop() override {
    used_ -= kept_.back();
    kept_.pop_back();
  }

  /// Since the last call.
  double take_seconds() { return std::exchange(moved_, 0) / plan_.swap.bandwidth; }

 private:
  const Plan& plan_;
  const JobCost& job_;  // so far
  std::vector<double> kept_;
  double used_ = 0, moved_ = 0;
};

// As many sequences of middling length as the pages hold, all of them half done; but no more than, simulated as fewer, leave those the pages of the
// longest.
int64_t sequences_held(const Plan& plan, const Requests& requests) {
  constexpr int64_t kEnough = 256;  // to know their lengths
  const Workload& some = requests.some(std::min(requests.count, kEnough));
  if (some.requests.empty()) return plan.sizes.sequences;  // those that have begun, which the pages do hold
  const auto pages = [&](int64_t tokens) { return pages_held(plan.kv.groups, plan.sizes.page_tokens, std::min(tokens, plan.max_model_len)); };
  const int64_t half_done = (prompt_tokens(some) + output_tokens(some) / 2) / static_cast<int64_t>(some.requests.size());
  const int64_t held = plan.kv_pages / std::max<int64_t>(1, pages(half_done));
  const int64_t longest = kMostSimulated * (plan.kv_pages / std::max<int64_t>(1, pages(longest_sequence(some))));
  return std::max<int64_t>(1, std::min(held, longest));
}

// Pages that all of them hold at their end, with a row more for each in flight, which admission leaves free: a pool of more would only take longer to
// make.
int32_t pages_wanted(const Plan& plan, const Workload& workload, std::span<const BegunRequest> begun) {
  int64_t pages = plan.sizes.sequences * plan.kv.num_groups();
  const auto add = [&](const RequestLength& r) {
    pages += pages_held(plan.kv.groups, plan.sizes.page_tokens, std::min<int64_t>(int64_t{r.prompt_tokens} + r.output_tokens, plan.max_model_len));
  };
  for (const BegunRequest& b : begun) add(b.left);
  for (size_t i = 0; i < workload.requests.size() && pages < plan.kv_pages; ++i) add(workload.requests[i]);
  return static_cast<int32_t>(std::min<int64_t>(pages, plan.kv_pages));
}

}  // namespace

CostOf cost_of_passes(const PlanInput& budget, const Machine& machine, const Plan& plan) {
  if (plan.gpu && machine.gpu)
    return [costs = GpuPassCosts(*budget.spec, *budget.work, machine, plan)](const PassLoad& load) { return costs.of(load); };
  return [costs = PassCosts(*budget.spec, *budget.work, machine, plan, budget.units)](const PassLoad& load) { return costs.of(load); };
}

void JobCost::add(const JobCost& other, double times) {
  const auto count = [times](int64_t& value, int64_t more) { value += std::llround(times * static_cast<double>(more)); };
  seconds += times * other.seconds;
  prompt_seconds += times * other.prompt_seconds;
  swap_seconds += times * other.swap_seconds;
  count(passes, other.passes);
  count(prompt_tokens, other.prompt_tokens);
  count(generated_tokens, other.generated_tokens);
  count(preemptions, other.preemptions);
  count(recomputed, other.recomputed);
  count(failed, other.failed);
  sum.add(other.sum, times);
}

JobCost simulate_job(const Plan& plan, const CostOf& cost_of, const Workload& workload, const LookAtPass& look, std::span<const BegunRequest> begun) {
  JobCost job;
  SimulatedSwap swap(plan, job);
  const bool swaps = plan.swap.bytes > 0;
  Scheduler scheduler(plan.sizes, plan.kv.groups, pages_wanted(plan, workload, begun), swaps ? &swap : nullptr);
  Sequences sequences(workload, plan.max_model_len);
  for (const BegunRequest& b : begun) {
    auto s = sequences.make(b.left);
    s->computed = std::min(b.computed, s->prompt_len - 1);
    scheduler.add_begun(std::move(s));
  }
  std::vector<std::unique_ptr<Sequence>> finished;
  for (;;) {
    while (scheduler.wants_more() && !sequences.ended()) {
      if (auto sequence = sequences.next()) {
        scheduler.add(std::move(sequence));
      } else {
        ++job.failed;
      }
    }
    if (scheduler.idle()) break;
    const Pass pass = scheduler.schedule();
    const double swapping = swaps ? swap.take_seconds() : 0;
    job.seconds += swapping;
    job.swap_seconds += swapping;
    const PassLoad load = load_of(pass);
    const PassCost cost = cost_of(load);
    if (look && !look(job.seconds, load, cost)) break;
    const auto num_sequences = static_cast<int64_t>(pass.sequences.size());
    job.most_sequences = std::max(job.most_sequences, num_sequences);
    ++job.passes;
    job.seconds += cost.seconds;
    job.sum.add(cost);
    job.prompt_tokens += scheduler.prefill_tokens();
    job.generated_tokens += static_cast<int64_t>(pass.logit_rows.size());
    const double tokens = load.decodes + load.prompt_tokens;
    if (tokens > 0) job.prompt_seconds += cost.seconds * static_cast<double>(scheduler.prefill_tokens()) / tokens;
    if (sequences.ended() && scheduler.num_waiting() == 0 && 2 * num_sequences < job.most_sequences) job.tail_seconds += cost.seconds;
    scheduler.commit(finished);
    job.failed += std::count_if(finished.begin(), finished.end(), [](const auto& s) { return !s->error.empty(); });
    finished.clear();
  }
  job.preemptions = scheduler.num_preemptions();
  job.recomputed = scheduler.num_recomputed();
  return job;
}

JobCost simulate_long_job(const Plan& plan, const CostOf& one, const Requests& requests, std::span<const BegunRequest> begun) {
  const int64_t all = requests.count + static_cast<int64_t>(begun.size());
  const int64_t in_flight = std::min({plan.sizes.sequences, all, sequences_held(plan, requests)});
  const int64_t alike = std::max<int64_t>(1, in_flight / kMostSimulated);
  Plan fewer = plan;
  fewer.sizes.pass_tokens /= alike;
  fewer.sizes.sequences /= alike;
  fewer.kv_pages /= static_cast<int32_t>(alike);
  fewer.swap.bytes /= static_cast<uint64_t>(alike);
  fewer.swap.bandwidth /= static_cast<double>(alike);
  const auto times = static_cast<double>(alike);
  const CostOf cost = [&](const PassLoad& load) { return one(load.times(times)); };
  std::vector<BegunRequest> first;
  for (size_t i = 0; i < begun.size(); i += static_cast<size_t>(alike)) first.push_back(begun[i]);
  const int64_t part = (alike > 1 ? kPartOfAlike : kPartRequests) * ceil_div(in_flight, alike);
  const bool long_job = requests.count / alike > 3 * part;
  JobCost job = simulate_job(fewer, cost, requests.some(long_job ? 2 * part : requests.count / alike), {}, first);
  if (long_job) {
    JobCost more = job;
    more.add(simulate_job(fewer, cost, requests.some(part), {}, first), -1);
    job.add(more, (static_cast<double>(requests.count) / times - static_cast<double>(2 * part)) / static_cast<double>(part));
  }
  for (int64_t JobCost::*count :
       {&JobCost::prompt_tokens, &JobCost::generated_tokens, &JobCost::preemptions, &JobCost::recomputed, &JobCost::failed, &JobCost::most_sequences})
    job.*count *= alike;
  return job;
}

JobCost simulate_static_batches(const Plan& plan, const CostOf& cost_of, const Workload& workload, const LookAtPass& look) {
  JobCost job;
  bool goes_on = true;
  const auto run = [&](const PassLoad& load, bool prompts) {
    const PassCost cost = cost_of(load);
    goes_on = !look || look(job.seconds, load, cost);
    if (!goes_on) return;
    ++job.passes;
    job.seconds += cost.seconds;
    if (prompts) job.prompt_seconds += cost.seconds;
    job.sum.add(cost);
    job.prompt_tokens += static_cast<int64_t>(load.prompt_tokens);
    job.generated_tokens += static_cast<int64_t>(load.logit_rows);
  };
  RequestLength longest;
  int64_t all = 0;  // that the context holds
  for (const RequestLength& r : workload.requests) {
    if (r.prompt_tokens >= plan.max_model_len) continue;
    longest = {std::max(longest.prompt_tokens, r.prompt_tokens), std::max(longest.output_tokens, r.output_tokens)};
    ++all;
  }
  longest.output_tokens = static_cast<int32_t>(std::min<int64_t>(longest.output_tokens, plan.max_model_len - longest.prompt_tokens));
  const int64_t failed = std::ssize(workload.requests) - all;
  if (all == 0) {
    job.failed = failed;
    return job;
  }
  const int64_t pages = ceil_div<int64_t>(int64_t{longest.prompt_tokens} + longest.output_tokens, plan.sizes.page_tokens) * plan.kv.num_groups();
  const auto batch = std::min<int64_t>(plan.kv_pages / pages, plan.sizes.sequences);
  if (batch == 0)
    throw_error(ErrorCode::out_of_memory, "the KV pages hold no request of {} + {} tokens", longest.prompt_tokens, longest.output_tokens);
  const auto prompt = static_cast<double>(longest.prompt_tokens);
  const auto run_batch = [&](int64_t in_batch) {
    job.most_sequences = std::max(job.most_sequences, in_batch);
    const int64_t at_once = std::max<int64_t>(1, plan.sizes.pass_tokens / longest.prompt_tokens);
    for (int64_t i = 0; i < in_batch && goes_on; i += at_once) {
      const auto count = static_cast<double>(std::min(at_once, in_batch - i));
      run({0, 0, count * prompt, count * prompt * (prompt + 1) / 2, count, 0, count * prompt}, true);
    }
    const auto count = static_cast<double>(in_batch);
    for (int32_t i = 1; i < longest.output_tokens && goes_on; ++i) run({count, count * (prompt + i), 0, 0, count, 0}, false);
  };
  int64_t left = all;
  if (!look && all >= batch) {  // those that are full are alike: one is simulated
    run_batch(batch);
    const JobCost one = job;
    job.add(one, static_cast<double>(all / batch - 1));
    left = all % batch;
  }
  for (; left > 0 && goes_on; left -= batch) run_batch(std::min(batch, left));
  job.failed = failed;
  return job;
}

}  // namespace moegen
