#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "checkpoint/weight_units.h"

namespace moegen {

/// Which weights stay in memory and which stream through slots.
struct WeightPlan {
  uint64_t resident_bytes = 0;    ///< of all that stays
  std::vector<int32_t> streamed;  ///< indices of the units that stream, in the order of computation; empty: all stays
  uint64_t streamed_bytes = 0;    ///< that a pass reads if every expert has tokens in it
  int num_units = 0;              ///< of the model
  int slots = 0;
  uint64_t slot_bytes = 0;

  [[nodiscard]] uint64_t bytes() const { return resident_bytes + static_cast<uint64_t>(slots) * slot_bytes; }
};

/// From so many tokens on a pass is expected to leave at most one expert in fifty without a token: (1 - k/E)^tokens <= 1/50. Fewer
/// wait for their routing: reading what nobody needs would cost more than the storage's idle time during a small attention.
[[nodiscard]] int64_t read_ahead_tokens(const MlpSpec& mlp);

/// What a stream of weights has under way: eight pieces of 2 MiB are what an NVMe SSD's rate asks for, twice (docs/results.md), and few
/// enough that they come in order.
inline constexpr uint32_t kReadPieceBytes = 2 << 20;
inline constexpr unsigned kReadDepth = 8;

struct WeightPlanInput {
  std::span<const WeightUnit> units;  ///< in the order of computation; empty: nothing can stream
  uint64_t weight_bytes = 0;          ///< of the whole model in memory
  std::optional<int64_t> slots;       ///< as many, not more and not less; 1: nothing is read while it computes
};

/// The least budget that a plan can be made for, bytes: what is no unit, and two slots (or as many as were asked for).
[[nodiscard]] uint64_t least_weight_bytes(const WeightPlanInput& input);

/// Fills `budget` bytes, at least least_weight_bytes(): everything if it fits; else what is no unit, a ring of slots, and as many
/// units as there is room for, the same number in every layer and those that the layer computes first, so that reading what
/// comes later goes on meanwhile. Pure.
[[nodiscard]] WeightPlan plan_weights(const WeightPlanInput& input, uint64_t budget);

}  // namespace moegen
