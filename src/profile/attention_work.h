#pragma once

#include <cstdint>
#include <vector>

#include "model/pass.h"
#include "plan/machine.h"
#include "profile/layer.h"
#include "profile/roofs.h"

namespace moegen {

/// Sequences of equal lengths in one pass, and the attention step over all of them. Their pages lie in no order, and are others in each run.
class AttentionWork {
 public:
  /// Each of `sequences` brings `queries` tokens, the last of its `context`: 1 is decode, `context` a whole prompt.
  AttentionWork(const AttentionShape& shape, int64_t sequences, int64_t queries, int64_t context, DType kv_dtype, const Workbench& bench);

  /// Bytes of K and V are counted once for each sequence.
  Work run();

 private:
  BenchLayer layer_;
  Work work_;
  std::vector<int32_t> tokens_;
  int64_t pages_;                     // of a sequence
  std::vector<int32_t> page_tables_;  // all pages, in no order, and as many of the first again as a sequence has
  int64_t next_page_ = 0;
  std::vector<PassSequence> sequences_;
  Pass pass_;
};

}  // namespace moegen
