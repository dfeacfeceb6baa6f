#pragma once

#include <map>
#include <vector>

#include "device/device.h"
#include "model/weights.h"
#include "plan/machine.h"

namespace moegen {

/// Experts of one form side by side in device memory, and the grouped GEMMs of them that a pass on a GPU runs (model/gpu_grouped_experts.h).
class GroupedWork {
 public:
  /// `memory`: what weights are made of, whatever its bits; experts that are not grouped, or memory for none, are no work. `most_rows`: of a run. Of
  /// scales all experts have the same, so that they are no traffic.
  GroupedWork(Device& device, const Stream& stream, Region memory, const MlpSpec& spec, int64_t hidden, const MatrixFormat& weights, DType act,
              int64_t most_rows);

  [[nodiscard]] bool empty() const { return experts_ == 0; }
  /// As many experts as have most_rows together, `tokens` each, at most most_rows; others than before, as long as there are any. Waits. Returns
  /// FLOPs.
  double run(int64_t tokens);

 private:
  struct Rows {  // of runs with so many tokens each
    int64_t experts = 0, tiles = 0;
    DeviceBuffer begin;
  };
  const Rows& rows_of(int64_t tokens);

  Device& device_;
  const Stream& stream_;
  Region memory_;
  int64_t hidden_, width_, most_rows_;
  MlpWeights form_;
  int64_t experts_ = 0;
  int64_t next_ = 0;
  DeviceBuffer scales_, table_, x_, activated_, y_;
  std::map<int64_t, Rows> rows_;
};

}  // namespace moegen
