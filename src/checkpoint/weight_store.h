#pragma once

#include <functional>
#include <vector>

#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "memory/mapped_memory.h"
#include "tensor/tensor.h"

namespace moegen {

/// The weights of a model that stay in memory, as the files have them, and all scales, as float: also those of tensors that do not stay, since
/// they are few bytes (1 of 4096), and would each be a read of its own. Owns the memory; the views live as long as it. What activations are, `act`,
/// is what a coded kv_b of latent attention becomes.
class WeightStore {
 public:
  /// Bytes that a tensor of `bytes` takes here, alignment included.
  static uint64_t bytes_of_tensor(uint64_t bytes);
  /// Bytes that all tensors of a table take.
  static uint64_t bytes_needed(const Binding& binding, DType act);
  static uint64_t bytes_needed(const std::vector<TensorSpec>& table, DType dtype, DType act);

  /// The views that a store will have, without data.
  static std::vector<TensorView> planned_views(const Binding& binding, DType act);
  static std::vector<TensorView> planned_views(const std::vector<TensorSpec>& table, DType dtype, DType act);

  /// How much of all has been read.
  using Loading = std::function<void(uint64_t bytes, uint64_t all)>;

  /// Reads the tensors of a binding that fits, but for those that `left_out`, beside the table, says (empty: all). Throws Error(io). Calls `loading`,
  /// if any, every ten seconds, on any thread.
  WeightStore(const Binding& binding, DType act, const Checkpoint& checkpoint, ThreadPool& pool, const std::vector<bool>& left_out = {},
              const Loading& loading = {});
  /// Random weights of the right shapes (`--load-format dummy`): norms 1, the rest normal with deviation 0.02. What is `quantised` is so,
  /// the rest in `dtype`.
  WeightStore(const std::vector<TensorSpec>& table, DType dtype, DType act, ThreadPool& pool);

  /// Beside the table that it was made from; without data where a tensor was left out.
  [[nodiscard]] const std::vector<TensorView>& views() const { return views_; }
  /// Of the same tensor, to be changed before it is used.
  [[nodiscard]] void* data(size_t table_idx) { return const_cast<void*>(views_[table_idx].data); }
  [[nodiscard]] uint64_t bytes() const { return memory_.size(); }
  /// All of it lies there.
  [[nodiscard]] std::byte* memory() { return memory_.data(); }

 private:
  MappedMemory memory_;
  std::vector<TensorView> views_;
};

}  // namespace moegen
