#pragma once

#include <optional>

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
  struct Pass {
    double seconds = 0;  ///< of the pass; of these
    double cpu = 0;      ///< the cores compute,
    double storage = 0;  ///< reads are under way
  };

  /// Some once the passes since the start, or since the last correction, are off by more than 15 % for long enough to mean it.
  [[nodiscard]] std::optional<Correction> add(const Pass& predicted, const Pass& measured);

 private:
  static constexpr int kPasses = 16;
  int passes_ = 0;
  Pass predicted_, measured_;
};

/// The machine as it turned out to be.
[[nodiscard]] Machine corrected(Machine machine, const Correction& correction);

}  // namespace moegen
