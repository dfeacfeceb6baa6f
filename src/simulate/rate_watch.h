#pragma once

#include <optional>

#include "moegen/engine.h"
#include "plan/machine.h"

namespace moegen {

/// How many times as long as predicted the cores and the storage take.
struct Correction {
  double cpu = 1;
  double storage = 1;
};

/// Compares the passes of a run with their prediction.
class RateWatch {
 public:
  /// Some once the passes since the start, or since the last correction, are off by more than 15 % for long enough to mean it.
  [[nodiscard]] std::optional<Correction> add(const ResourceSeconds& predicted, const ResourceSeconds& measured);

 private:
  static constexpr int kPasses = 16;
  int passes_ = 0;
  ResourceSeconds predicted_, measured_;
};

/// The machine as it turned out to be.
[[nodiscard]] Machine corrected(Machine machine, const Correction& correction);

}  // namespace moegen
