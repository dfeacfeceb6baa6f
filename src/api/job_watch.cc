#include "api/job_watch.h"

#include <cmath>

#include "base/clock.h"

namespace moegen {
namespace {

constexpr double kLeastInterval = 1;  // seconds between looks
constexpr double kShare = 0.01;       // of the time, for looking

// Rates a core and a machine of our days have about. They only shape the first guess.
Machine usual_machine(int threads) {
  Machine m;
  m.name = "usual";
  m.cpu.cores = threads;
  m.cpu.bf16_flops = 8e10 * threads;
  m.cpu.attention_flops = 4e10 * threads;
  m.dram.bandwidth = 2e10;
  m.ssd = Machine::Ssd{0, 2e9, {}, 1, 1, ""};
  return m;
}

}  // namespace

JobWatch::JobWatch(const ModelSetup& model, const Workload& workload)
    : machine_(model.machine ? *model.machine : usual_machine(model.pool.size())),
      outlook_(model.plan, cost_of_passes(model.budget, machine_, model.plan), workload) {}

void JobWatch::made(const Sequence& sequence) {
  ++sequences_made_;
  outlook_.made(sequence);
}

std::optional<double> JobWatch::seconds_left(const Scheduler& scheduler, std::optional<int64_t> requests_left, double now) {
  const auto begin = Clock::now();
  std::optional<double> out;
  if (requests_left && requests_taken_ > 0) {
    const double each = static_cast<double>(sequences_made_) / static_cast<double>(requests_taken_);
    out = outlook_.seconds_left(scheduler, std::llround(each * static_cast<double>(*requests_left)));
  }
  const double took = Clock::seconds_since(begin);
  next_look_ = now + std::max(kLeastInterval, took / kShare);
  return out;
}

}  // namespace moegen
