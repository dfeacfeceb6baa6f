#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "base/check.h"
#include "base/checked.h"
#include "memory/mapped_memory.h"

namespace moegen {

/// A bump allocator over one mapping, freed whole. Without a mapping it only measures: laying the same things out in a
/// measuring arena first gives the bytes that the real one needs, so the two cannot disagree. Things of which no two are needed at
/// the same time may be laid one over the other: rewind() to where the first began, skip() behind the longest.
class Arena {
 public:
  Arena() = default;  ///< measures
  Arena(size_t bytes, std::string_view purpose) : memory_(bytes, purpose), measures_(false) {}

  /// Room for `count` objects at a cache line; null in a measuring arena. Contents are zero where nothing was laid before.
  template <typename T>
  T* take(int64_t count) {
    return reinterpret_cast<T*>(take_bytes(static_cast<size_t>(count) * sizeof(T)));
  }

  std::byte* take_bytes(size_t bytes) {
    const size_t at = at_;
    at_ += round_up(bytes, kAlignment);
    used_ = std::max(used_, at_);
    if (measures_) return nullptr;
    MOEGEN_CHECK(used_ <= memory_.size());
    return memory_.data() + at;
  }

  [[nodiscard]] size_t at() const { return at_; }
  void rewind(size_t at) {
    MOEGEN_CHECK(at <= at_);
    at_ = at;
  }
  void skip() { at_ = used_; }

  [[nodiscard]] size_t used() const { return used_; }

 private:
  static constexpr size_t kAlignment = 64;
  MappedMemory memory_;
  bool measures_ = true;
  size_t at_ = 0;
  size_t used_ = 0;
};

}  // namespace moegen
