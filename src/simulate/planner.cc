#include "simulate/planner.h"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>

#include "base/error.h"

namespace moegen {
namespace {

constexpr int64_t kPartRequests = 10;  // of a long job, times the sequences in flight, are simulated to know its rate
constexpr double kHair = 0.01;         // plans whose jobs differ by less are one and the same

// What is varied. An empty optional: as make_plan does it.
struct Sizes {
  std::optional<uint64_t> weight_memory;
  std::optional<int64_t> pass_tokens, sequences, slots;
  auto operator<=>(const Sizes&) const = default;
};

class Search {
 public:
  explicit Search(const PlannerInput& input) : in_(input) {}

  Decision run() {
    Sizes best;
    const PlannedJob* job = simulate(best);
    if (job == nullptr) static_cast<void>(make_plan(in_.budget));  // throws
    for (bool better = true; better;) {
      better = false;
      for (const auto& options : {&Search::weight_options, &Search::pass_options, &Search::sequence_options, &Search::slot_options}) {
        for (const Sizes& sizes : (this->*options)(best, job->plan)) {
          const PlannedJob* other = simulate(sizes);
          if (other == nullptr || other->job.seconds > job->job.seconds * (1 - kHair / 10)) continue;
          best = sizes;
          job = other;
          better = true;
        }
      }
    }
    Decision out{*job, {}, static_cast<int64_t>(done_.size())};
    for (const auto& [sizes, other] : done_) {
      if (other && other->job.seconds > job->job.seconds * (1 + kHair) && (!out.next || other->job.seconds < out.next->job.seconds)) out.next = other;
    }
    return out;
  }

 private:
  // Null where the budgets do not allow it.
  const PlannedJob* simulate(const Sizes& sizes) {
    const auto [at, fresh] = done_.try_emplace(sizes);
    if (fresh) {
      PlanInput input = in_.budget;
      if (sizes.weight_memory) input.weight_memory = sizes.weight_memory;
      if (sizes.pass_tokens) input.max_pass_tokens = sizes.pass_tokens;
      if (sizes.sequences) input.max_num_seqs = sizes.sequences;
      if (sizes.slots) input.weight_slots = sizes.slots;
      try {
        Plan plan = in_.made != nullptr ? smaller(*in_.made, sizes) : make_plan(input);
        const JobCost job = whole_job(plan);
        at->second = PlannedJob{input, std::move(plan), job};
      } catch (const Error& e) {
        if (e.code() != ErrorCode::out_of_memory) throw;
      }
    }
    return at->second ? &*at->second : nullptr;
  }

  [[nodiscard]] int64_t most_tokens() const { return in_.made != nullptr ? in_.made->sizes.pass_tokens : 16384; }

  static Plan smaller(Plan plan, const Sizes& sizes) {
    plan.sizes.pass_tokens = std::min(plan.sizes.pass_tokens, sizes.pass_tokens.value_or(plan.sizes.pass_tokens));
    plan.sizes.sequences = std::min({plan.sizes.sequences, plan.sizes.pass_tokens, sizes.sequences.value_or(plan.sizes.sequences)});
    return plan;
  }

  // Of a long job two parts, the second twice the first: what it took more is the rate at which the rest goes on.
  JobCost whole_job(const Plan& plan) {
    const PassCosts costs(*in_.budget.spec, *in_.machine, plan, in_.budget.units);
    const auto all = static_cast<int64_t>(in_.workload->requests.size());
    const int64_t part = kPartRequests * plan.sizes.sequences;
    if (all <= 3 * part) return simulate_job(plan, costs, *in_.workload);
    const JobCost first = simulate_job(plan, costs, part_of(part));
    JobCost job = simulate_job(plan, costs, part_of(2 * part));
    const double rest = static_cast<double>(all - 2 * part) / static_cast<double>(part);
    const auto go_on = [rest](auto& value, auto before) {
      value += static_cast<std::decay_t<decltype(value)>>(rest * static_cast<double>(value - before));
    };
    go_on(job.seconds, first.seconds);
    go_on(job.passes, first.passes);
    go_on(job.prompt_tokens, first.prompt_tokens);
    go_on(job.generated_tokens, first.generated_tokens);
    go_on(job.prompt_seconds, first.prompt_seconds);
    go_on(job.preemptions, first.preemptions);
    PassCost more = job.sum;
    more.add(first.sum, -1);
    job.sum.add(more, rest);
    return job;
  }

  const Workload& part_of(int64_t count) {
    const auto [at, fresh] = parts_.try_emplace(count);
    if (fresh) at->second = thinned(*in_.workload, count);
    return at->second;
  }

  // From the least, in small steps where slots are few, to all of them.
  [[nodiscard]] std::vector<Sizes> weight_options(Sizes sizes, const Plan&) const {
    std::vector<Sizes> out;
    if (in_.made != nullptr || in_.budget.weight_memory || in_.budget.units.empty()) return out;
    const uint64_t least = least_weight_bytes({in_.budget.units, in_.budget.weight_bytes, {}});
    for (const double share : {0.0, 0.01, 0.02, 0.04, 0.06, 0.09, 0.12, 0.18, 0.25, 0.37, 0.5, 0.62, 0.75, 0.87, 1.0}) {
      sizes.weight_memory = least + static_cast<uint64_t>(share * static_cast<double>(in_.budget.weight_bytes - least));
      out.push_back(sizes);
    }
    return out;
  }

  [[nodiscard]] std::vector<Sizes> pass_options(Sizes sizes, const Plan&) const {
    std::vector<Sizes> out;
    if (in_.budget.max_pass_tokens) return out;
    for (int64_t tokens = 64; tokens <= most_tokens(); tokens *= 2) {
      sizes.pass_tokens = tokens;
      out.push_back(sizes);
    }
    return out;
  }

  [[nodiscard]] std::vector<Sizes> sequence_options(Sizes sizes, const Plan& plan) const {
    std::vector<Sizes> out;
    if (in_.budget.max_num_seqs) return out;
    for (int64_t sequences = 16; sequences <= plan.sizes.pass_tokens; sequences *= 2) {
      for (const int64_t count : {sequences, sequences * 3 / 2}) {
        if (count > plan.sizes.pass_tokens) continue;
        sizes.sequences = count;
        out.push_back(sizes);
      }
    }
    return out;
  }

  // Half and twice the ring, as long as that helps.
  [[nodiscard]] std::vector<Sizes> slot_options(Sizes sizes, const Plan& plan) const {
    std::vector<Sizes> out;
    if (in_.made != nullptr || in_.budget.weight_slots || plan.weights.slots == 0) return out;
    for (const int64_t slots : {int64_t{plan.weights.slots} / 2, int64_t{plan.weights.slots} * 2}) {
      if (slots < 2) continue;
      sizes.slots = slots;
      out.push_back(sizes);
    }
    return out;
  }

  const PlannerInput& in_;
  std::map<int64_t, Workload> parts_;  // by the number of their requests
  std::map<Sizes, std::optional<PlannedJob>> done_;
};

}  // namespace

Decision choose_plan(const PlannerInput& input) { return Search(input).run(); }

}  // namespace moegen
