#pragma once

#include <string>
#include <vector>

#include "plan/machine.h"
#include "spec/model_spec.h"

namespace moegen {

/// What of a model decides how long its steps take.
struct ModelShapes {
  struct Mlp {
    int64_t hidden = 0;
    int64_t width = 0;
    MatrixFormat weights;
    bool operator==(const Mlp&) const = default;
  };
  struct Linear {
    int64_t outputs = 0;
    int64_t k = 0;
    MatrixFormat weights;
    bool operator==(const Linear&) const = default;
  };
  ModelSpec spec;               ///< of `layer` alone
  std::vector<Mlp> mlps;        ///< experts, shared experts, dense MLPs
  std::vector<Linear> linears;  ///< attention's projections, router, head
  std::vector<AttentionShape> attentions;

  /// Of everything that is in here, in words.
  [[nodiscard]] std::string text() const;
};

/// Each shape once, those of the first layers if there are very many. The layer is the first that has experts, or else the first.
[[nodiscard]] ModelShapes shapes_of(const ModelSpec& spec);
/// What of an MLP does not fit `memory` bytes is measured with fewer columns, 32 at least: the rate is the same.
[[nodiscard]] int64_t width_that_fits(int64_t hidden, int64_t width, uint64_t memory, DType weights);
/// Where there is no model: the shapes of Qwen3-30B-A3B.
[[nodiscard]] ModelSpec default_model();

}  // namespace moegen
