#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <map>
#include <utility>

#include "simulate/simulation.h"

namespace moegen {

/// A pass costs what one of nearly the same load did, half a percent off at most in each of its numbers: jobs have many that are alike, and to cost
/// one is to go through all layers.
class RememberedCosts {
 public:
  explicit RememberedCosts(CostOf cost_of) : cost_of_(std::move(cost_of)) {}

  PassCost operator()(const PassLoad& load) {
    const std::array key = {about(load.decodes),    about(load.decode_keys), about(load.prompt_tokens), about(load.prompt_keys),
                            about(load.logit_rows), about(load.drawn_rows),  about(load.chunk_ends)};
    const auto [at, fresh] = known_.try_emplace(key);
    if (fresh) at->second = cost_of_(load);
    return at->second;
  }

 private:
  static int32_t about(double value) {
    constexpr double kStepsOfAPowerOfTwo = 128;
    return value > 0 ? 1 + static_cast<int32_t>(std::lround(kStepsOfAPowerOfTwo * std::log2(std::max(1.0, value)))) : 0;
  }

  CostOf cost_of_;
  std::map<std::array<int32_t, 7>, PassCost> known_;
};

}  // namespace moegen
