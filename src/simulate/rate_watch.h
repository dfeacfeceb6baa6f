#pragma once

#include <cstdint>
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
  /// Some where the last 16 passes together, or as many as took a minute but three at least, are more than 15 % off; after each correction twice
  /// as many have to be, so that what looks for new sizes takes no time worth the name.
  [[nodiscard]] std::optional<Correction> add(const ResourceSeconds& predicted, const ResourceSeconds& measured);

 private:
  int64_t times_ = 1;
  int64_t passes_ = 0;
  ResourceSeconds predicted_, measured_;
};

/// The machine as it turned out to be.
[[nodiscard]] Machine corrected(Machine machine, const Correction& correction);

}  // namespace moegen
