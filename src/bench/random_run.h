#pragma once

#include <cstdint>
#include <vector>

#include "moegen/bench.h"
#include "moegen/engine.h"

namespace moegen {

/// Tokens of a request and of its answer.
struct Lengths {
  int64_t prompt = 0;
  int64_t generate = 0;
};

/// Of so many requests, as the options say; the same in every run.
[[nodiscard]] std::vector<Lengths> make_lengths(const ThroughputBench& options, int64_t count);
/// With answers of one token.
[[nodiscard]] std::vector<Lengths> prompts_only(std::vector<Lengths> lengths);

/// What a run did.
struct Run {
  Progress progress;        ///< behind the last pass
  double experts_used = 0;  ///< share of experts that had tokens, the sum over passes
};

/// Runs greedy requests of random token ids. Throws Error where one is refused.
Run run(Engine& engine, const std::vector<Lengths>& lengths);

}  // namespace moegen
