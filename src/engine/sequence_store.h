#pragma once

#include <algorithm>

#include "engine/sequence.h"
#include "model/kv_layout.h"

namespace moegen {

/// Bytes of the KV pages and the recurrent state that a sequence has.
[[nodiscard]] inline uint64_t memory_of(const Sequence& s, const KvLayout& kv) {
  const auto pages = std::count_if(s.pages.begin(), s.pages.end(), [](int32_t page) { return page >= 0; });
  return static_cast<uint64_t>(pages) * kv.page_bytes + (s.state >= 0 ? kv.state_bytes() : 0);
}

/// Keeps what preempted sequences have computed: their KV pages and recurrent states. The last that was kept is the first to come back.
class SequenceStore {
 public:
  SequenceStore() = default;
  virtual ~SequenceStore() = default;
  SequenceStore(const SequenceStore&) = delete;
  SequenceStore& operator=(const SequenceStore&) = delete;

  /// What it has in its pages and in its state. False where that cannot be kept: it has to be computed again.
  virtual bool keep(const Sequence& sequence) = 0;
  /// Into the pages and the state that it has now. False where that cannot be read: it has to be computed again.
  virtual bool bring_back(const Sequence& sequence) = 0;
  /// The last that was kept will not come back.
  virtual void drop() = 0;
};

}  // namespace moegen
