#pragma once

#include <cstdint>
#include <vector>

#include "bench/layer.h"
#include "bench/setup.h"
#include "model/pass.h"
#include "plan/machine.h"

namespace moegen {

/// Sequences of equal lengths in one pass, and the attention step over all of them. Their pages lie in no order.
class AttentionWork {
 public:
  /// Each of `sequences` brings `queries` tokens, the last of its `context`: 1 is decode, `context` a whole prompt.
  AttentionWork(const AttentionShape& shape, int64_t sequences, int64_t queries, int64_t context, DType kv_dtype, BenchSetup& setup);

  /// Bytes of K and V are counted once for each sequence.
  Work run();
  [[nodiscard]] const MappedMemory& memory() const { return layer_.kv_pages(); }

 private:
  Work work_;
  BenchLayer layer_;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> page_tables_;
  std::vector<PassSequence> sequences_;
  Pass pass_;
};

}  // namespace moegen
