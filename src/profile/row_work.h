#pragma once

#include <vector>

#include "engine/sampler.h"
#include "engine/sequence.h"
#include "plan/machine.h"
#include "profile/layer.h"
#include "profile/sampling.h"

namespace moegen {

/// The steps of a layer that go row by row, as the engine runs them, without the projections between them.
class RowWork {
 public:
  /// A model of one layer; passes of up to `most_tokens`.
  RowWork(const ModelSpec& spec, DType kv_dtype, int64_t most_tokens, const Workbench& bench);

  /// Elements/s over rows; see StepRates::Rows.
  [[nodiscard]] StepRates::Rows sample(const Effort& effort);

 private:
  void begin(int64_t tokens);
  void run_norm(int64_t tokens);
  double place_rate(int64_t tokens);
  double route_rate(int64_t tokens);
  double sampler_rate(const Sequence& sequence, int64_t rows);

  const Workbench& bench_;
  BenchLayer layer_;
  std::vector<int32_t> pages_;  // in no order, each once: several threads write to them
  int64_t most_tokens_;
  std::vector<int32_t> tokens_;
  std::vector<PassSequence> sequences_;
  Pass pass_;
  Sampler sampler_;
};

/// Seconds of one token through a layer so small that only fixed costs are left.
[[nodiscard]] double pass_seconds(const Workbench& bench);

}  // namespace moegen
