#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "profile/layer.h"
#include "profile/roofs.h"

namespace moegen {

/// Experts of one shape, as many as the memory holds, used in turn: when one's turn comes again its weights have left the caches.
class MlpWork {
 public:
  /// Throws Error(invalid_argument) where the memory does not hold one expert.
  MlpWork(int64_t hidden, int64_t width, int64_t most_tokens, const Workbench& bench);

  /// An expert micro-batch as the executor makes it: the next experts, `tokens` each, gathered from a pass.
  Work run(int64_t tokens) { return run_batch(tokens, nullptr); }
  /// One or some, with `tokens` in the mean, scattered as by a router that chooses at random (of the standard deviation of Poisson's distribution),
  /// so that few are whole tiles: in pairs, of which one has as many more as the other has less, so that every call is worth the same.
  Work run_routed(int64_t tokens);

 private:
  Work run_batch(int64_t tokens, size_t* drawn);
  [[nodiscard]] int64_t draw(int64_t tokens, size_t drawn) const;

  int64_t hidden_;
  int64_t width_;
  int64_t most_tokens_;
  int64_t pass_tokens_;
  double weight_bytes_;  // of one
  std::vector<MlpWeights> experts_;
  BenchLayer layer_;
  std::vector<MlpRows> parts_;
  std::vector<int32_t> rows_;
  size_t next_ = 0;
  std::map<int64_t, size_t> drawn_;  // of each number of tokens
  int64_t out_row_ = 0;
};

/// A projection with weights that take turns through the memory, as attention's projections and the head of the model run.
class LinearWork {
 public:
  /// Throws Error(invalid_argument) where the memory does not hold the matrix.
  LinearWork(int64_t outputs, int64_t k, int64_t most_rows, const Workbench& bench);
  Work run(int64_t rows);

 private:
  const Workbench& bench_;
  int64_t outputs_;
  int64_t k_;
  size_t matrix_bytes_;
  size_t at_ = 0;
  BenchLayer layer_;
  MappedMemory out_;  // [rows, outputs] float
};

}  // namespace moegen
