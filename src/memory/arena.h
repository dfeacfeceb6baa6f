#pragma once

#include <cstddef>
#include <string_view>

#include "base/check.h"
#include "base/checked.h"
#include "memory/mapped_memory.h"

namespace moegen {

/// A bump allocator over one mapping, freed whole. Without a mapping it only measures: laying the same things out in a
/// measuring arena first gives the bytes that the real one needs, so the two cannot disagree.
class Arena {
 public:
  Arena() = default;  ///< measures
  Arena(size_t bytes, std::string_view purpose) : memory_(bytes, purpose), measures_(false) {}

  /// Room for `count` objects at a cache line; null in a measuring arena. Contents are zero.
  template <typename T>
  T* take(int64_t count) {
    return reinterpret_cast<T*>(take_bytes(static_cast<size_t>(count) * sizeof(T)));
  }

  std::byte* take_bytes(size_t bytes) {
    const size_t at = used_;
    used_ += round_up(bytes, kAlignment);
    if (measures_) return nullptr;
    MOEGEN_CHECK(used_ <= memory_.size());
    return memory_.data() + at;
  }

  [[nodiscard]] size_t used() const { return used_; }

 private:
  static constexpr size_t kAlignment = 64;
  MappedMemory memory_;
  bool measures_ = true;
  size_t used_ = 0;
};

}  // namespace moegen
