#pragma once

#include <algorithm>
#include <cstring>

#include "device/device.h"

namespace moegen {

/// Copies over the link of a GPU: one piece of pinned memory after the other, in a stream of its own.
class LinkCopy {
 public:
  LinkCopy(Device& device, bool to_device, size_t bytes)
      : device_(device),
        to_device_(to_device),
        bytes_(bytes),
        stream_(device.new_stream()),
        host_(device.new_host_buffer(bytes)),
        memory_(device.new_buffer(bytes)) {
    std::memset(host_.handle(), 1, bytes);
    device.copy_to_device(stream_, memory_.handle(), host_.handle(), bytes);
    device.synchronize(stream_);
  }
  /// All of it, in pieces. Several that go at once begin each piece in turns.
  template <typename Copies>
  static void run(const Copies& copies, size_t piece) {
    for (size_t at = 0; at < copies.front()->bytes_; at += piece) {
      for (const auto& copy : copies) copy->begin(at, piece);
    }
    for (const auto& copy : copies) copy->device_.synchronize(copy->stream_);
  }

 private:
  void begin(size_t at, size_t piece) const {
    std::byte* host = static_cast<std::byte*>(host_.handle()) + at;
    std::byte* memory = static_cast<std::byte*>(memory_.handle()) + at;
    const size_t size = std::min(piece, bytes_ - at);
    to_device_ ? device_.copy_to_device(stream_, memory, host, size) : device_.copy_to_host(stream_, host, memory, size);
  }

  Device& device_;
  bool to_device_;
  size_t bytes_;
  Stream stream_;
  HostBuffer host_;
  DeviceBuffer memory_;
};

}  // namespace moegen
