#pragma once

#include <vector>

#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "memory/mapped_memory.h"
#include "tensor/tensor.h"

namespace moegen {

/// All weights of a model in memory, as the files have them. Owns the memory; the views live as long as it.
class WeightStore {
 public:
  /// Bytes that the tensors of a table take, alignment included.
  static uint64_t bytes_needed(const Binding& binding);
  static uint64_t bytes_needed(const std::vector<TensorSpec>& table, DType dtype);

  /// Reads every tensor of a binding that fits. Throws Error(io).
  WeightStore(const Binding& binding, const Checkpoint& checkpoint, ThreadPool& pool);
  /// Random weights of the right shapes (`--load-format dummy`): norms 1, the rest normal with deviation 0.02.
  WeightStore(const std::vector<TensorSpec>& table, DType dtype, ThreadPool& pool);

  /// Beside the table that it was made from.
  [[nodiscard]] const std::vector<TensorView>& views() const { return views_; }
  [[nodiscard]] uint64_t bytes() const { return memory_.size(); }

 private:
  MappedMemory memory_;
  std::vector<TensorView> views_;
};

}  // namespace moegen
