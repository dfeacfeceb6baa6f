#include "simulate/rate_watch.h"

#include <cmath>

namespace moegen {
namespace {

constexpr double kOff = 0.15;
constexpr int64_t kPasses = 16;
constexpr int64_t kLongPasses = 3;  // where these take kSeconds
constexpr double kSeconds = 60;

void slow_down(Curve& curve, double factor) {
  for (Curve::Point& p : curve.points) p.rate /= factor;
}

void slow_down(Surface& surface, double factor) {
  for (Surface::Line& line : surface.lines) slow_down(line.curve, factor);
}

}  // namespace

std::optional<Correction> RateWatch::add(const ResourceSeconds& predicted, const ResourceSeconds& measured) {
  predicted_ += predicted;
  measured_ += measured;
  ++passes_;
  const bool enough = passes_ >= kPasses * times_ || (passes_ >= kLongPasses * times_ && measured_.passes >= kSeconds * static_cast<double>(times_));
  if (!enough || predicted_.passes <= 0) return std::nullopt;
  const double ratio = measured_.passes / predicted_.passes;
  std::optional<Correction> out;
  if (std::abs(ratio - 1) > kOff) {
    const auto factor = [](double is, double should) { return is > 0 && should > 0 ? is / should : 1; };
    out = {factor(measured_.cpu, predicted_.cpu), factor(measured_.storage, predicted_.storage)};
    times_ *= 2;
  }
  passes_ = 0;
  predicted_ = {};
  measured_ = {};
  return out;
}

Machine corrected(Machine machine, const Correction& correction) {
  machine.cpu.bf16_flops /= correction.cpu;
  machine.cpu.attention_flops /= correction.cpu;
  machine.dram.bandwidth /= correction.cpu;
  if (machine.ssd && machine.ssd->read_bandwidth) *machine.ssd->read_bandwidth /= correction.storage;
  if (machine.ssd) slow_down(machine.ssd->by_depth, correction.storage);
  if (!machine.steps) return machine;
  StepRates& s = *machine.steps;
  for (auto& mlp : s.mlps) slow_down(mlp.flops, correction.cpu);
  for (auto& linear : s.linears) slow_down(linear.flops, correction.cpu);
  for (auto& attention : s.attentions) {
    slow_down(attention.decode, correction.cpu);
    slow_down(attention.prefill, correction.cpu);
  }
  for (Curve StepRates::Rows::*row : {&StepRates::Rows::embed, &StepRates::Rows::norm, &StepRates::Rows::place, &StepRates::Rows::route,
                                      &StepRates::Rows::combine, &StepRates::Rows::argmax, &StepRates::Rows::draw})
    slow_down(s.rows.*row, correction.cpu);
  s.pass_seconds *= correction.cpu;
  s.fork_join_seconds *= correction.cpu;
  return machine;
}

}  // namespace moegen
