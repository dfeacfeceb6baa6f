#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace moegen {

struct GpuKernels;  // kernels/gpu_functions.h
class Device;

/// Bytes of host or device memory.
struct Region {
  const void* data = nullptr;
  size_t bytes = 0;
};

/// From one memory to another.
struct Copy {
  void* to;
  const void* from;
  size_t bytes;
};

/// What owns a thing of a device: moves, does not copy, gives it back at its end. The device must outlive it.
template <void (Device::*kRelease)(void*) noexcept>
class DeviceOwned {
 public:
  DeviceOwned() = default;
  DeviceOwned(Device& device, void* handle) : device_(&device), handle_(handle) {}
  DeviceOwned(DeviceOwned&& other) noexcept : device_(std::exchange(other.device_, nullptr)), handle_(std::exchange(other.handle_, nullptr)) {}
  DeviceOwned& operator=(DeviceOwned&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~DeviceOwned() {
    if (device_ != nullptr) (device_->*kRelease)(handle_);
  }
  [[nodiscard]] void* handle() const { return handle_; }

 private:
  Device* device_ = nullptr;
  void* handle_ = nullptr;
};

/// One GPU. Work goes into streams: what is in one runs in its order, what is in two runs in any order or at the same time unless an event says
/// otherwise. Nothing but `synchronize` waits. For one thread at a time. Every call may throw Error(io) with the driver's words; allocations
/// throw Error(out_of_memory).
class Device {
 public:
  Device() = default;
  virtual ~Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  virtual void release_stream(void* stream) noexcept = 0;
  virtual void release_event(void* event) noexcept = 0;
  virtual void release_memory(void* memory) noexcept = 0;
  virtual void release_host(void* memory) noexcept = 0;
  void unpin(void* memory) noexcept;

  using Stream = DeviceOwned<&Device::release_stream>;
  using Event = DeviceOwned<&Device::release_event>;
  using Buffer = DeviceOwned<&Device::release_memory>;  ///< device memory, aligned to 256; its contents are not defined at first
  using HostBuffer = DeviceOwned<&Device::release_host>;
  using Pin = DeviceOwned<&Device::unpin>;

  [[nodiscard]] virtual std::string name() const = 0;
  /// Device memory that can still be allocated, bytes.
  [[nodiscard]] virtual size_t free_memory() const = 0;
  /// Device memory that its context, modules and libraries take beside what is allocated here, bytes.
  [[nodiscard]] virtual size_t overhead() const { return 0; }
  /// The NUMA node of the host that is closest to it; -1: not known.
  [[nodiscard]] virtual int numa_node() const { return -1; }
  /// The kernels that run here.
  [[nodiscard]] virtual const GpuKernels& kernels() const = 0;

  [[nodiscard]] virtual Stream new_stream(bool urgent = false) = 0;  ///< urgent: its work goes before that of others, where the device can
  [[nodiscard]] virtual Event new_event() = 0;                       ///< happened already, as long as it is not recorded
  [[nodiscard]] virtual Buffer new_buffer(size_t bytes) = 0;
  /// Device memory with these bytes; the caller waits.
  [[nodiscard]] Buffer new_buffer_of(const Stream& stream, const void* bytes, size_t count);
  /// Host memory that copies reach without a detour; where the system does not give such, any.
  [[nodiscard]] virtual HostBuffer new_host_buffer(size_t bytes) = 0;
  /// Makes host memory that is there such memory. False where the system refuses, as it does beyond its limits: copies then take a detour, and
  /// wait for it.
  [[nodiscard]] std::optional<Pin> try_pin(void* memory, size_t bytes);

  /// Before another thread than the one that opened the device calls anything else.
  virtual void use_here() = 0;

  /// Work, behind all that is in the stream. Memory must stay until it is done. Several copies at once, which have nothing in common, may be done in
  /// any order: a call for each would take the driver as long as the link takes for small pieces.
  void copy_to_device(const Stream& stream, std::span<const Copy> copies) { copy(stream, copies, true); }
  void copy_to_host(const Stream& stream, std::span<const Copy> copies) { copy(stream, copies, false); }
  void copy_to_device(const Stream& stream, void* to, const void* from, size_t bytes) { copy(stream, {{{to, from, bytes}}}, true); }
  void copy_to_host(const Stream& stream, void* to, const void* from, size_t bytes) { copy(stream, {{{to, from, bytes}}}, false); }
  virtual void fill(const Stream& stream, void* to, uint8_t value, size_t bytes) = 0;
  /// The event happens when all that is in the stream by now is done.
  virtual void record(const Event& event, const Stream& stream) = 0;
  /// What comes into the stream later begins after the event, as it was last recorded.
  virtual void wait(const Stream& stream, const Event& event) = 0;

  /// The caller waits.
  virtual void synchronize(const Event& event) = 0;
  virtual void synchronize(const Stream& stream) = 0;
  /// The same for destructors: an error of the device was thrown where it was first met.
  virtual void settle(const Stream& stream) noexcept = 0;
  /// Says that the host reads, or writes, memory that copies also reach. An emulated device checks that it may.
  virtual void host_reads(const void* memory, size_t bytes) = 0;
  virtual void host_writes(const void* memory, size_t bytes) = 0;

 private:
  // The host's memory of each is in one block that try_pin() pinned, if `pinned`, or touches none: drivers refuse a copy across the border.
  virtual void copy_pieces(const Stream& stream, std::span<const Copy> pieces, bool to_device, bool pinned) = 0;
  virtual bool pin_range(void* memory, size_t bytes) = 0;
  virtual void unpin_range(void* memory) noexcept = 0;
  void copy(const Stream& stream, std::span<const Copy> copies, bool to_device);

  std::map<const std::byte*, size_t> pinned_;   // begin, bytes
  std::vector<Copy> pieces_, unpinned_pieces_;  // of the copies that are enqueued
};

using Stream = Device::Stream;
using Event = Device::Event;
using DeviceBuffer = Device::Buffer;
using HostBuffer = Device::HostBuffer;

/// Memory of the host, pinned in blocks of a gibibyte for as long as this lives; the blocks that the system refused are left as they were.
class PinnedBlocks {
 public:
  PinnedBlocks() = default;
  PinnedBlocks(Device& device, void* memory, size_t bytes);
  [[nodiscard]] size_t pinned_bytes() const { return pinned_bytes_; }

 private:
  std::vector<Device::Pin> pins_;
  size_t pinned_bytes_ = 0;
};

}  // namespace moegen
