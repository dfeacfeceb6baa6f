#pragma once

#include <cstdint>
#include <vector>

#include "model/pass.h"
#include "plan/machine.h"
#include "profile/layer.h"
#include "profile/roofs.h"

namespace moegen {

/// Sequences of equal lengths in one pass. Each brings `queries` tokens, the last of its `context`: 1 is decode, more are of a prompt,
/// `context` all of it.
struct AttentionLoad {
  int64_t sequences = 1;
  int64_t queries = 1;
  int64_t context = 1;
  int window = 0;  ///< AttentionSpec's
};

/// The attention step over such a pass. Pages of sequences lie in no order, and are others in each run.
class AttentionWork {
 public:
  AttentionWork(const AttentionShape& shape, const AttentionLoad& load, DType kv_dtype, const Workbench& bench);

  /// Bytes of K and V that queries see are counted once for each sequence.
  Work run();

 private:
  BenchLayer layer_;
  Work work_;
  std::vector<int32_t> tokens_;
  int64_t seen_pages_;                // of a sequence
  std::vector<int32_t> page_tables_;  // all pages, in no order, and as many of the first again as a sequence has
  int64_t next_page_ = 0;
  std::vector<PassSequence> sequences_;
  Pass pass_;
};

}  // namespace moegen
