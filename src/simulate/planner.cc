#include "simulate/planner.h"

#include <algorithm>
#include <array>
#include <exception>
#include <map>
#include <mutex>
#include <span>

#include "base/error.h"
#include "base/thread_pool.h"
#include "simulate/remembered_costs.h"

namespace moegen {
namespace {

constexpr double kHair = 0.01;        // plans whose jobs differ by less are one and the same
constexpr double kStreamGain = 0.04;  // by which a plan whose weights stream is to be better than one where all stay: rates are no surer than that

// What is varied. An empty optional: as make_plan does it.
struct Sizes {
  std::optional<uint64_t> weight_memory;
  std::optional<int64_t> pass_tokens, sequences, slots;
  std::optional<uint64_t> device_weights;
  std::optional<double> cpu_share;  // of attention
  bool cpu_experts = false;
  auto operator<=>(const Sizes&) const = default;
};

constexpr int kMostThreads = 8;  // each has a scheduler with its requests in memory
constexpr size_t kWeights = 0;   // of the dimensions of Search::descend

class Search {
 public:
  explicit Search(const PlannerInput& input) : in_(input) {}

  Decision run() {
    const PlannedJob* job = simulate({});
    if (job == nullptr) static_cast<void>(whole_job(make_plan(in_.budget)));  // throws
    least_tokens_ = std::min({in_.budget.wanted_context, job->plan.max_model_len, capacity(job->plan)});
    job = descend({}, job, kWeights);
    // Weights that stay may have left no room for large passes, which pay more where most of the work is prompts; or too few stay for the search to
    // see what all of them would bring: from both ends too.
    for (const Sizes& end : weight_ends(job->plan)) {
      const PlannedJob* other = simulate(end);
      if (other != nullptr) other = descend(end, other, kWeights + 1);  // weights last
      if (other != nullptr && is_better(*other, *job)) job = other;
    }
    Decision out{*job, {}, static_cast<int64_t>(done_.size())};
    for (const auto& [sizes, other] : done_) {
      if (!other || other->job.failed > job->job.failed || other->job.seconds <= job->job.seconds * (1 + kHair)) continue;
      if (!out.next || other->job.seconds < out.next->job.seconds) out.next = other;
    }
    return out;
  }

 private:
  // Along one dimension after the other, beginning with `first`, until none gets better.
  const PlannedJob* descend(Sizes best, const PlannedJob* job, size_t first) {
    constexpr std::array kDimensions = {&Search::weight_options, &Search::device_options,   &Search::cpu_share_options, &Search::cpu_expert_options,
                                        &Search::pass_options,   &Search::sequence_options, &Search::slot_options};
    for (bool better = true; better;) {
      better = false;
      for (size_t i = 0; i < kDimensions.size(); ++i) {
        const std::vector<Sizes> options = (this->*kDimensions[(first + i) % kDimensions.size()])(best, job->plan);
        simulate_all(options);
        for (const Sizes& sizes : options) {
          const PlannedJob* other = simulate(sizes);
          if (other == nullptr || !is_better(*other, *job)) continue;
          best = sizes;
          job = other;
          better = true;
        }
      }
    }
    return job;
  }

  // The least weights in memory; on a GPU all of them too. None where they are not to be chosen.
  [[nodiscard]] std::vector<Sizes> weight_ends(const Plan& plan) const {
    const std::vector<Sizes> weights = weight_options({}, plan);
    if (weights.empty()) return {};
    const std::vector<Sizes> device = device_options(weights.front(), plan);
    if (device.empty()) return {weights.front()};
    return {device.front(), weights.back()};
  }

  // Null where the budgets do not allow it.
  const PlannedJob* simulate(const Sizes& sizes) {
    simulate_all({&sizes, 1});
    const std::optional<PlannedJob>& job = done_.at(sizes);
    return job ? &*job : nullptr;
  }

  // Those that have not been yet, beside one another.
  void simulate_all(std::span<const Sizes> options) {
    std::vector<decltype(done_)::value_type*> fresh;
    for (const Sizes& sizes : options) {
      if (const auto [at, is_fresh] = done_.try_emplace(sizes); is_fresh) fresh.push_back(&*at);
    }
    std::vector<std::exception_ptr> errors(fresh.size());
    pool_.parallel_for(static_cast<int64_t>(fresh.size()), [&](int64_t i, int) {
      const auto idx = static_cast<size_t>(i);
      try {
        fresh[idx]->second = job_with(fresh[idx]->first);
      } catch (...) {
        errors[idx] = std::current_exception();
      }
    });
    for (const std::exception_ptr& error : errors) {
      if (error) std::rethrow_exception(error);
    }
  }

  [[nodiscard]] std::optional<PlannedJob> job_with(const Sizes& sizes) {
    PlanInput input = in_.budget;
    if (sizes.weight_memory) input.weight_memory = sizes.weight_memory;
    if (sizes.pass_tokens) input.max_pass_tokens = sizes.pass_tokens;
    if (sizes.sequences) input.max_num_seqs = sizes.sequences;
    if (sizes.slots) input.weight_slots = sizes.slots;
    if (sizes.device_weights) input.gpu->device_weights = sizes.device_weights;
    if (sizes.cpu_share) input.gpu->cpu_attention_share = sizes.cpu_share;
    if (sizes.cpu_experts) input.gpu->cpu_experts = in_.machine;
    try {
      Plan plan = in_.made != nullptr ? smaller(*in_.made, sizes) : make_plan(input);
      if (capacity(plan) < least_tokens_) return std::nullopt;
      const JobCost job = whole_job(plan);
      return PlannedJob{input, std::move(plan), job};
    } catch (const Error& e) {
      if (e.code() != ErrorCode::out_of_memory && e.code() != ErrorCode::unsupported) throw;  // no rate of a storage that others need not
      return std::nullopt;
    }
  }

  // Answers more requests, or the same sooner: one that fails is no time saved.
  static bool is_better(const PlannedJob& other, const PlannedJob& job) {
    if (other.job.failed != job.job.failed) return other.job.failed < job.job.failed;
    const bool begins_to_stream = other.plan.weights.slots > 0 && job.plan.weights.slots == 0;
    return other.job.seconds < job.job.seconds * (1 - (begins_to_stream ? kStreamGain : kHair / 10));
  }

  static int64_t capacity(const Plan& plan) { return longest_held(plan.kv.groups, plan.sizes.page_tokens, plan.kv_pages); }

  // No kernel gets faster beyond some thousand tokens: more only make weights that stream come less often.
  [[nodiscard]] int64_t most_tokens(const Plan& plan) const {
    if (in_.made != nullptr) return in_.made->sizes.pass_tokens;
    return in_.budget.gpu || plan.weights.slots > 0 ? int64_t{1} << 19 : 16384;
  }

  // That the whole job is taken to have.
  [[nodiscard]] int64_t requests() const { return in_.requests > 0 ? in_.requests : std::ssize(in_.workload->requests); }

  static Plan smaller(Plan plan, const Sizes& sizes) {
    plan.sizes.pass_tokens = std::min(plan.sizes.pass_tokens, sizes.pass_tokens.value_or(plan.sizes.pass_tokens));
    plan.sizes.sequences = std::min({plan.sizes.sequences, plan.sizes.pass_tokens, sizes.sequences.value_or(plan.sizes.sequences)});
    return plan;
  }

  JobCost whole_job(const Plan& plan) {
    const CostOf one = RememberedCosts(cost_of_passes(in_.budget, *in_.machine, plan));
    if (plan.gpu && plan.gpu->static_batches) return simulate_static_batches(plan, one, *in_.workload);
    return simulate_long_job(plan, one, {requests(), [this](int64_t count) -> const Workload& { return part_of(count); }});
  }

  const Workload& part_of(int64_t count) {
    const std::lock_guard lock(parts_mutex_);
    const auto [at, fresh] = parts_.try_emplace(count);
    if (fresh) at->second = by_length_.some(count);
    return at->second;
  }

  // From the least, in small steps where slots are few, to all of them.
  [[nodiscard]] std::vector<Sizes> weight_options(Sizes sizes, const Plan&) const {
    std::vector<Sizes> out;
    if (in_.made != nullptr || in_.budget.weight_memory || in_.budget.device != nullptr) return out;
    if (in_.budget.gpu) {  // what HBM leaves, in DRAM: from an eighth of it to all
      for (int eighths = 1; eighths <= 8 && !in_.budget.gpu->static_batches; ++eighths) {
        sizes.weight_memory = in_.budget.host_memory / 8 * static_cast<uint64_t>(eighths);
        out.push_back(sizes);
      }
      return out;
    }
    if (in_.budget.units.empty()) return out;
    const uint64_t least = least_weight_bytes({in_.budget.units, in_.budget.weight_bytes, {}});
    for (const double share : {0.0, 0.01, 0.02, 0.04, 0.06, 0.09, 0.12, 0.18, 0.25, 0.37, 0.5, 0.62, 0.75, 0.87, 1.0}) {
      sizes.weight_memory = least + static_cast<uint64_t>(share * static_cast<double>(in_.budget.weight_bytes - least));
      out.push_back(sizes);
    }
    return out;
  }

  // HBM for weights, from none to all of it.
  [[nodiscard]] std::vector<Sizes> device_options(Sizes sizes, const Plan&) const {
    std::vector<Sizes> out;
    if (!in_.budget.gpu || in_.budget.gpu->static_batches || in_.budget.device != nullptr) return out;
    for (int eighths = 0; eighths <= 8; ++eighths) {
      sizes.device_weights = in_.budget.gpu->device_memory / 8 * static_cast<uint64_t>(eighths);
      out.push_back(sizes);
    }
    return out;
  }

  [[nodiscard]] std::vector<Sizes> cpu_share_options(Sizes sizes, const Plan&) const {
    std::vector<Sizes> out;
    if (!in_.budget.gpu || in_.budget.gpu->cpu_attention_share) return out;
    for (int tenths = 0; tenths <= 10; ++tenths) {
      sizes.cpu_share = tenths / 10.0;
      out.push_back(sizes);
    }
    return out;
  }

  // In runs they are as the options say, or balanced.
  [[nodiscard]] std::vector<Sizes> cpu_expert_options(Sizes sizes, const Plan&) const {
    if (!in_.budget.gpu || in_.budget.gpu->static_batches || in_.budget.device != nullptr) return {};
    sizes.cpu_experts = !sizes.cpu_experts;
    return {sizes};
  }

  [[nodiscard]] std::vector<Sizes> pass_options(Sizes sizes, const Plan& plan) const {
    std::vector<Sizes> out;
    if (in_.budget.max_pass_tokens) return out;
    for (int64_t tokens = in_.budget.gpu ? 1024 : 16; tokens <= most_tokens(plan); tokens *= 2) {
      sizes.pass_tokens = tokens;
      out.push_back(sizes);
    }
    return out;
  }

  [[nodiscard]] std::vector<Sizes> sequence_options(Sizes sizes, const Plan& plan) const {
    std::vector<Sizes> out;
    if (in_.budget.max_num_seqs) return out;
    if (in_.budget.gpu) {  // shares of what all pages hold when they end, and of what those in HBM do; and around what there is
      const auto count = std::max<int64_t>(1, std::ssize(in_.workload->requests));
      const int64_t tokens = (prompt_tokens(*in_.workload) + output_tokens(*in_.workload)) / count + plan.sizes.page_tokens;
      const auto each = static_cast<double>(pages_held(plan.kv.groups, plan.sizes.page_tokens, tokens));
      const double now = static_cast<double>(plan.sizes.sequences);
      const auto add = [&](double sequences) {
        sizes.sequences = static_cast<int64_t>(std::clamp(sequences, 1.0, static_cast<double>(requests())));
        out.push_back(sizes);
      };
      for (const double share : {0.03, 0.06, 0.12, 0.25, 0.5, 0.7, 0.85, 1.0, 1.1, 1.2}) add(share * plan.kv_pages / each);
      for (const double share : {0.7, 0.85, 1.0, 1.2}) add(share * static_cast<double>(plan.gpu->device_pages) / each);
      for (const double times : {0.6, 0.8, 0.9, 1.1, 1.25}) add(times * now);
      return out;
    }
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
    if (in_.made != nullptr || in_.budget.weight_slots || plan.weights.slots == 0 || in_.budget.device != nullptr) return out;
    for (const int64_t slots : {int64_t{plan.weights.slots} / 2, int64_t{plan.weights.slots} * 2}) {
      if (slots < 2) continue;
      sizes.slots = slots;
      out.push_back(sizes);
    }
    return out;
  }

  const PlannerInput& in_;
  const ByLength by_length_{*in_.workload};
  int64_t least_tokens_ = 0;  // that the KV pages of any other plan must hold
  std::mutex parts_mutex_;
  std::map<int64_t, Workload> parts_;  // by the number of their requests
  std::map<Sizes, std::optional<PlannedJob>> done_;
  ThreadPool pool_{std::min(usable_cores(), kMostThreads)};
};

}  // namespace

Decision choose_plan(const PlannerInput& input) { return Search(input).run(); }

}  // namespace moegen
