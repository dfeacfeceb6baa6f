#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace moegen {

/// One read: bytes [offset, offset + bytes) of a descriptor. For a descriptor with O_DIRECT all three are multiples of what its file
/// system asks.
struct ReadRequest {
  int fd = -1;
  uint64_t offset = 0;
  std::byte* to = nullptr;
  uint32_t bytes = 0;
  uint32_t tag = 0;  ///< comes back with the result
  int buffer = -1;   ///< index of the buffer that holds `to`, of those given to open_async_reader(); -1: none
};

struct ReadResult {
  uint32_t tag = 0;
  int64_t bytes = 0;  ///< as pread() returns it, short reads included; or -errno
};

/// The seam to the operating system for reads that run beside the computation: as raw as the system's own, so that what to do about
/// short reads and errors is decided in one place above it, and tested with a reader that makes them up. One thread uses it.
class AsyncReader {
 public:
  AsyncReader() = default;
  AsyncReader(const AsyncReader&) = delete;
  AsyncReader& operator=(const AsyncReader&) = delete;
  virtual ~AsyncReader() = default;  ///< waits for what is under way: nothing is written to memory afterwards

  [[nodiscard]] virtual std::string_view name() const = 0;
  /// Begins a read. At most `depth` of them may be under way.
  virtual void submit(const ReadRequest& request) = 0;
  /// Waits until one or more of those under way have ended; their number, at most results.size(). Throws Error(io) where the
  /// system cannot say.
  virtual size_t wait(std::span<ReadResult> results) = 0;
};

/// io_uring, with `buffers` registered where that is allowed; null where the system refuses io_uring.
std::unique_ptr<AsyncReader> open_uring_reader(unsigned depth, std::span<const std::span<std::byte>> buffers);
/// As many threads as may be under way, each in pread().
std::unique_ptr<AsyncReader> open_pread_reader(unsigned depth);
/// The first of the two that this system has.
std::unique_ptr<AsyncReader> open_async_reader(unsigned depth, std::span<const std::span<std::byte>> buffers);

}  // namespace moegen
