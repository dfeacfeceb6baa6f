#include <mutex>
#include <vector>

#include "base/error.h"
#include "checkpoint/checkpoint.h"

namespace moegen {
namespace {

// The first input whose group is not that of its neighbours; -1: all are in order.
int64_t first_out_of_order(const std::vector<int32_t>& groups, int64_t group) {
  for (size_t i = 0; i < groups.size(); ++i) {
    if (groups[i] != static_cast<int64_t>(i) / group) return static_cast<int64_t>(i);
  }
  return -1;
}

}  // namespace

void check_orders(const Binding& binding, const Checkpoint& checkpoint, ThreadPool& pool) {
  std::mutex mutex;
  std::optional<Error> failure;  // the first of the table; tasks of the pool must not throw
  size_t failed = binding.table.size();
  pool.parallel_for(static_cast<int64_t>(binding.table.size()), [&](int64_t i, int) {
    const auto idx = static_cast<size_t>(i);
    const TensorInfo* order = binding.orders[idx];
    if (order == nullptr) return;
    const auto fail = [&](const Error& error) {
      const std::lock_guard lock(mutex);
      if (idx > failed) return;
      failed = idx;
      failure = error;
    };
    try {
      const FileReader& file = checkpoint.files()[order->file_idx];
      std::vector<int32_t> groups(order->bytes / sizeof(int32_t));
      file.read(order->offset, groups.data(), order->bytes);
      const int64_t at = first_out_of_order(groups, binding.table[idx].group);
      if (at < 0) return;
      fail(Error(ErrorCode::unsupported,
                 fmt::format("{}: {}: input {} is in group {}: groups of inputs that are not neighbours (desc_act true) are not supported",
                             file.path().string(), order->name, at, groups[static_cast<size_t>(at)])));
    } catch (const Error& error) {
      fail(error);
    }
  });
  if (failure) throw Error(*failure);
}

}  // namespace moegen
