#include <liburing.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "storage/async_reader.h"

namespace moegen {
namespace {

constexpr size_t kMaxBufferBytes = size_t{1} << 30;  // what io_uring takes
constexpr size_t kMaxBuffers = 1 << 14;

class UringReader final : public AsyncReader {
 public:
  // The ring must be initialised; it is owned from here on.
  explicit UringReader(const io_uring& ring) : ring_(ring) {}
  ~UringReader() override {
    ReadResult ignored[16];
    try {
      while (under_way_ > 0) UringReader::wait(ignored);
    } catch (const Error&) {  // io_uring_queue_exit() cancels what is left
    }
    io_uring_queue_exit(&ring_);
  }

  // Memory that may not be locked is no reason to stop.
  void register_buffers(std::span<const std::span<std::byte>> buffers) {
    std::vector<iovec> vectors;
    vectors.reserve(buffers.size());
    for (const auto& b : buffers) vectors.push_back({b.data(), b.size()});
    const bool small =
        vectors.size() <= kMaxBuffers && std::all_of(vectors.begin(), vectors.end(), [](const iovec& v) { return v.iov_len <= kMaxBufferBytes; });
    registered_ = small && !vectors.empty() && io_uring_register_buffers(&ring_, vectors.data(), static_cast<unsigned>(vectors.size())) == 0;
  }

  [[nodiscard]] std::string_view name() const override { return registered_ ? "io_uring, registered buffers" : "io_uring"; }

  void submit(const ReadRequest& r) override {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    if (entry == nullptr) throw_error(ErrorCode::io, "io_uring: more reads than its queue holds");
    if (registered_ && r.buffer >= 0) {
      io_uring_prep_read_fixed(entry, r.fd, r.to, r.bytes, r.offset, r.buffer);
    } else {
      io_uring_prep_read(entry, r.fd, r.to, r.bytes, r.offset);
    }
    io_uring_sqe_set_data64(entry, r.tag);
    int status = io_uring_submit(&ring_);
    while (status == -EINTR || status == -EAGAIN) status = io_uring_submit(&ring_);
    if (status < 0) throw_error(ErrorCode::io, "io_uring: submitting a read: {}", std::strerror(-status));
    ++under_way_;
  }

  size_t wait(std::span<ReadResult> results) override {
    io_uring_cqe* completion = nullptr;
    int status = io_uring_wait_cqe(&ring_, &completion);
    while (status == -EINTR) status = io_uring_wait_cqe(&ring_, &completion);
    if (status < 0) throw_error(ErrorCode::io, "io_uring: waiting for a read: {}", std::strerror(-status));
    size_t count = 0;
    while (count < results.size() && io_uring_peek_cqe(&ring_, &completion) == 0) {
      results[count++] = {static_cast<uint32_t>(io_uring_cqe_get_data64(completion)), completion->res};
      io_uring_cqe_seen(&ring_, completion);
    }
    under_way_ -= count;
    return count;
  }

 private:
  io_uring ring_;
  bool registered_ = false;
  size_t under_way_ = 0;
};

}  // namespace

std::unique_ptr<AsyncReader> open_uring_reader(unsigned depth, std::span<const std::span<std::byte>> buffers) {
  io_uring ring{};
  if (io_uring_queue_init(depth, &ring, 0) < 0) return nullptr;  // ENOSYS, EPERM in containers, ENOMEM where little may be locked
  auto reader = std::make_unique<UringReader>(ring);
  reader->register_buffers(buffers);
  return reader;
}

std::unique_ptr<AsyncReader> open_async_reader(unsigned depth, std::span<const std::span<std::byte>> buffers) {
  if (auto reader = open_uring_reader(depth, buffers)) return reader;
  return open_pread_reader(depth);
}

}  // namespace moegen
