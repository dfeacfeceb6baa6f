#pragma once

#include <algorithm>

#include "base/trace.h"
#include "model/linear.h"
#include "model/steps.h"

namespace moegen {

/// Collects the rows of experts of a layer until an expert micro-batch is full, to run them in one fork and join. Behind route().
class ExpertBatch {
 public:
  /// What is passed must outlive it.
  ExpertBatch(const StepContext& c, Trace* trace, size_t layer) : c_(c), trace_(trace), layer_(layer) {}

  [[nodiscard]] int64_t rows_of(size_t e) const { return c_.buffers.expert_begin[e + 1] - c_.buffers.expert_begin[e]; }
  [[nodiscard]] bool fits(size_t e) const { return rows_ == 0 || rows_ + rows_of(e) <= limit(); }
  [[nodiscard]] int num_experts() const { return num_experts_; }

  /// It must fit. Of an expert with more rows than a micro-batch all but the last rows run at once.
  void add(size_t e, const MlpWeights& weights) {
    ++num_experts_;
    const int64_t end = c_.buffers.expert_begin[e + 1];
    for (int64_t first = c_.buffers.expert_begin[e]; first < end; first += limit()) {
      const int64_t last = std::min(end, first + limit());
      if (rows_ + last - first > limit()) run_parts();
      void* y = act_at(c_, c_.buffers.expert_out, first * c_.spec.hidden);
      const float* scale = c_.spec.layers[layer_].mlp.router.weighs_input ? c_.buffers.row_weight + first : nullptr;
      c_.buffers.parts[parts_++] = {&weights, c_.buffers.row_token + first, 0, last - first, rows_, y, scale};
      rows_ += last - first;
    }
  }

  /// Runs what is there, and lets go of the weights.
  void run() {
    run_parts();
    num_experts_ = 0;
  }

 private:
  [[nodiscard]] int64_t limit() const { return c_.sizes.expert_micro_batch; }
  void run_parts() {
    if (parts_ == 0) return;
    const Trace::Span span(trace_, "experts", static_cast<int64_t>(layer_), static_cast<int64_t>(parts_));
    run_experts(c_, {c_.buffers.parts, parts_});
    parts_ = 0;
    rows_ = 0;
  }

  const StepContext& c_;
  Trace* trace_;
  size_t layer_;
  size_t parts_ = 0;
  int64_t rows_ = 0;
  int num_experts_ = 0;
};

}  // namespace moegen
