#pragma once

#include <cstdint>
#include <vector>

#include "base/check.h"

namespace moegen {

/// Ids of equal pages, [0, size). The last released is the first reserved again, so that few pages are touched.
class PagePool {
 public:
  explicit PagePool(int32_t size) : size_(size), is_free_(static_cast<size_t>(size), true) {
    free_.reserve(static_cast<size_t>(size));
    for (int32_t page = size; page-- > 0;) free_.push_back(page);
  }

  [[nodiscard]] int32_t size() const { return size_; }
  [[nodiscard]] int32_t num_free() const { return static_cast<int32_t>(free_.size()); }

  /// There must be a free one.
  int32_t reserve() {
    MOEGEN_CHECK(!free_.empty());
    const int32_t page = free_.back();
    free_.pop_back();
    is_free_[static_cast<size_t>(page)] = false;
    return page;
  }

  /// It must not be free.
  void release(int32_t page) {
    MOEGEN_CHECK(page >= 0 && page < size_ && !is_free(page));
    is_free_[static_cast<size_t>(page)] = true;
    free_.push_back(page);
  }

  [[nodiscard]] bool is_free(int32_t page) const { return is_free_[static_cast<size_t>(page)]; }

 private:
  int32_t size_;
  std::vector<int32_t> free_;
  std::vector<bool> is_free_;  // of each page
};

}  // namespace moegen
