#include "plan/weight_plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace moegen {
namespace {

constexpr int64_t kLeastSlots = 2;  // one is computed with, one is filled
constexpr uint64_t kRingShare = 4;  // the ring gets a quarter of what could be resident

uint64_t largest_slot(const WeightPlanInput& in) {
  uint64_t bytes = 0;
  for (const WeightUnit& unit : in.units) bytes = std::max(bytes, unit.slot_bytes);
  return bytes;
}

uint64_t unit_bytes(const WeightPlanInput& in) {
  return std::accumulate(in.units.begin(), in.units.end(), uint64_t{0}, [](uint64_t sum, const WeightUnit& u) { return sum + u.resident_bytes; });
}

int64_t least_slots(const WeightPlanInput& in) { return in.slots.value_or(std::min<int64_t>(kLeastSlots, static_cast<int64_t>(in.units.size()))); }

// Units of the layer that has the most.
int64_t largest_layer(std::span<const WeightUnit> units) {
  int64_t most = 0;
  for (size_t begin = 0, i = 0; i < units.size(); ++i) {
    if (units[i].layer != units[begin].layer) begin = i;
    most = std::max(most, static_cast<int64_t>(i - begin + 1));
  }
  return most;
}

// The ring must hold what the SSD delivers while the cores do something else than to run streamed units: attention, resident
// units. A byte of it saves waiting in every layer, a byte of residency only itself, so the ring gets a fair share; but more than
// a layer's units, or than a share of what streams at all, would be for nothing.
int64_t choose_slots(const WeightPlanInput& in, uint64_t room, uint64_t slot_bytes) {
  if (in.slots) return *in.slots;
  const uint64_t least = static_cast<uint64_t>(least_slots(in)) * slot_bytes;
  const uint64_t streamed = unit_bytes(in) - std::min(unit_bytes(in), room - least);
  const auto more = static_cast<int64_t>(std::min(room - least, streamed) / kRingShare / slot_bytes);
  return std::min(least_slots(in) + more, std::max(least_slots(in), largest_layer(in.units)));
}

// Marks the units that stay in `room` bytes: the first of every layer, then the second of every layer, and so on.
std::vector<bool> choose_resident(std::span<const WeightUnit> units, uint64_t room) {
  std::vector<bool> resident(units.size());
  std::vector<size_t> begins;
  for (size_t i = 0; i < units.size(); ++i) {
    if (i == 0 || units[i].layer != units[i - 1].layer) begins.push_back(i);
  }
  const auto layer_end = [&](size_t l) { return l + 1 < begins.size() ? begins[l + 1] : units.size(); };
  for (size_t rank = 0; rank < units.size(); ++rank) {
    for (size_t l = 0; l < begins.size(); ++l) {
      const size_t i = begins[l] + rank;
      if (i >= layer_end(l)) continue;
      if (units[i].resident_bytes > room) return resident;
      room -= units[i].resident_bytes;
      resident[i] = true;
    }
  }
  return resident;
}

}  // namespace

int64_t read_ahead_tokens(const MlpSpec& mlp) {
  constexpr double kIdleExperts = 0.02;
  if (mlp.top_k >= mlp.num_experts) return 1;  // a layer without experts is one of these
  const double share = static_cast<double>(mlp.top_k) / mlp.num_experts;
  return static_cast<int64_t>(std::ceil(std::log(kIdleExperts) / std::log1p(-share)));
}

uint64_t least_weight_bytes(const WeightPlanInput& in) {
  const uint64_t streaming = in.weight_bytes - unit_bytes(in) + static_cast<uint64_t>(least_slots(in)) * largest_slot(in);
  return in.units.empty() ? in.weight_bytes : std::min(in.weight_bytes, streaming);
}

WeightPlan plan_weights(const WeightPlanInput& in, uint64_t budget) {
  MOEGEN_CHECK(budget >= least_weight_bytes(in));
  WeightPlan plan;
  plan.num_units = static_cast<int>(in.units.size());
  plan.resident_bytes = in.weight_bytes;
  if (budget >= in.weight_bytes) return plan;
  plan.slot_bytes = largest_slot(in);
  const uint64_t room = budget - (in.weight_bytes - unit_bytes(in));
  const int64_t slots = choose_slots(in, room, plan.slot_bytes);
  const std::vector<bool> resident = choose_resident(in.units, room - static_cast<uint64_t>(slots) * plan.slot_bytes);
  for (size_t i = 0; i < in.units.size(); ++i) {
    if (resident[i]) continue;
    plan.streamed.push_back(static_cast<int32_t>(i));
    plan.resident_bytes -= in.units[i].resident_bytes;
    for (const WeightUnit::Range& range : in.units[i].ranges) plan.streamed_bytes += range.end - range.begin;
  }
  plan.slots = static_cast<int>(std::min<int64_t>(slots, static_cast<int64_t>(plan.streamed.size())));
  return plan;
}

}  // namespace moegen
