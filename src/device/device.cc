#include "device/device.h"

#include <algorithm>
#include <iterator>

namespace moegen {

std::optional<Device::Pin> Device::try_pin(void* memory, size_t bytes) {
  if (!pin_range(memory, bytes)) return std::nullopt;
  pinned_.emplace(static_cast<const std::byte*>(memory), bytes);
  return Pin(*this, memory);
}

void Device::unpin(void* memory) noexcept {
  pinned_.erase(static_cast<const std::byte*>(memory));
  unpin_range(memory);
}

void Device::copy(const Stream& stream, void* to, const void* from, size_t bytes, const void* host) {
  for (size_t at = 0; at < bytes;) {
    const std::byte* begin = static_cast<const std::byte*>(host) + at;
    size_t size = bytes - at;
    auto next = pinned_.upper_bound(begin);
    if (next != pinned_.end() && next->first < begin + size) size = static_cast<size_t>(next->first - begin);
    if (next != pinned_.begin()) {
      const std::byte* end = std::prev(next)->first + std::prev(next)->second;
      if (begin < end && end < begin + size) size = static_cast<size_t>(end - begin);
    }
    copy_piece(stream, static_cast<std::byte*>(to) + at, static_cast<const std::byte*>(from) + at, size, begin);
    at += size;
  }
}

PinnedBlocks::PinnedBlocks(Device& device, void* memory, size_t bytes) {
  constexpr size_t kBlock = size_t{1} << 30;
  for (size_t at = 0; at < bytes; at += kBlock) {
    void* block = static_cast<std::byte*>(memory) + at;
    const size_t size = std::min(kBlock, bytes - at);
    auto pin = device.try_pin(block, size);
    if (!pin) continue;
    pins_.push_back(std::move(*pin));
    pinned_bytes_ += size;
  }
}

}  // namespace moegen
