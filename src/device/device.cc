#include "device/device.h"

#include <algorithm>
#include <cstring>
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

void Device::copy(const Stream& stream, std::span<const Copy> copies, bool to_device) {
  pieces_.clear();
  unpinned_pieces_.clear();
  for (const Copy& c : copies) {
    for (size_t at = 0; at < c.bytes;) {
      const std::byte* begin = static_cast<const std::byte*>(to_device ? c.from : c.to) + at;
      size_t size = c.bytes - at;
      bool pinned = false;
      const auto next = pinned_.upper_bound(begin);
      if (next != pinned_.end() && next->first < begin + size) size = static_cast<size_t>(next->first - begin);
      if (next != pinned_.begin()) {
        const std::byte* end = std::prev(next)->first + std::prev(next)->second;
        pinned = begin < end;
        if (pinned && end < begin + size) size = static_cast<size_t>(end - begin);
      }
      (pinned ? pieces_ : unpinned_pieces_).push_back({static_cast<std::byte*>(c.to) + at, static_cast<const std::byte*>(c.from) + at, size});
      at += size;
    }
  }
  if (!pieces_.empty()) copy_pieces(stream, pieces_, to_device, true);
  if (!unpinned_pieces_.empty()) copy_pieces(stream, unpinned_pieces_, to_device, false);
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

Device::Buffer Device::new_buffer_of(const Stream& stream, const void* bytes, size_t count) {
  const HostBuffer host = new_host_buffer(count);
  host_writes(host.handle(), count);
  std::memcpy(host.handle(), bytes, count);
  Buffer out = new_buffer(count);
  copy_to_device(stream, out.handle(), host.handle(), count);
  synchronize(stream);
  return out;
}

}  // namespace moegen
