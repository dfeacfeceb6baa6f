#include "batch/byte_source.h"

#include <poll.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace moegen {
namespace {

using namespace std::string_view_literals;

constexpr size_t kChunkBytes = size_t{128} << 10;
constexpr std::string_view kGzip = "\x1f\x8b"sv;
constexpr std::string_view kZstd = "\x28\xb5\x2f\xfd"sv;
constexpr std::pair<std::string_view, std::string_view> kOthers[] = {
    {"\xfd"
     "7zX"sv,
     "xz is not read here: xz -dc FILE | moegen run-batch -i - .."sv},
    {"BZh"sv, "bzip2 is not read here: bzip2 -dc FILE | moegen run-batch -i - .."sv},
    {"PK\x03\x04"sv, "a zip archive is not read here: unzip -p FILE | moegen run-batch -i - .."sv},
    {"PAR1"sv, "Parquet is not read here: docs/requests.md has a line that makes JSON lines of it"sv},
};

class DescriptorSource : public ByteSource {
 public:
  DescriptorSource(int fd, std::string name, const std::atomic<bool>& stop) : fd_(fd), name_(std::move(name)), stop_(stop) {}
  DescriptorSource(const DescriptorSource&) = delete;
  DescriptorSource& operator=(const DescriptorSource&) = delete;
  ~DescriptorSource() override {
    if (fd_ != STDIN_FILENO) ::close(fd_);
  }

  size_t read(char* to, size_t bytes) override {
    while (!stop_) {
      if (!wait(100)) continue;  // time or a signal: look at stop_
      const ssize_t got = ::read(fd_, to, bytes);
      if (got >= 0) return static_cast<size_t>(got);
      if (errno != EINTR && errno != EAGAIN) throw_error(ErrorCode::io, "{}: cannot read: {}", name_, std::strerror(errno));
    }
    return 0;
  }
  [[nodiscard]] bool ready() const override { return wait(0); }

 private:
  // A regular file is always ready.
  [[nodiscard]] bool wait(int milliseconds) const {
    pollfd ready{fd_, POLLIN, 0};
    return ::poll(&ready, 1, milliseconds) > 0;
  }

  int fd_;
  std::string name_;
  const std::atomic<bool>& stop_;
};

// What was read to recognise the format comes first, then the rest.
class PrefixedSource : public ByteSource {
 public:
  PrefixedSource(std::string prefix, std::unique_ptr<ByteSource> rest) : prefix_(std::move(prefix)), rest_(std::move(rest)) {}

  size_t read(char* to, size_t bytes) override {
    if (given_ == prefix_.size()) return rest_->read(to, bytes);
    const size_t n = prefix_.copy(to, bytes, given_);
    given_ += n;
    return n;
  }
  [[nodiscard]] bool ready() const override { return given_ < prefix_.size() || rest_->ready(); }

 private:
  std::string prefix_;
  size_t given_ = 0;
  std::unique_ptr<ByteSource> rest_;
};

class GzipSource : public ByteSource {
 public:
  GzipSource(std::unique_ptr<ByteSource> from, std::string name) : from_(std::move(from)), name_(std::move(name)), chunk_(kChunkBytes) {
    if (::inflateInit2(&stream_, 15 + 16) != Z_OK) throw_error(ErrorCode::out_of_memory, "{}: no memory to decompress gzip", name_);
  }
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;
  ~GzipSource() override { ::inflateEnd(&stream_); }

  size_t read(char* to, size_t bytes) override {
    stream_.next_out = reinterpret_cast<Bytef*>(to);
    stream_.avail_out = static_cast<uInt>(std::min<size_t>(bytes, 1U << 30));
    const uInt room = stream_.avail_out;
    while (stream_.avail_out == room) {
      if (stream_.avail_in == 0) {
        const size_t got = from_->read(reinterpret_cast<char*>(chunk_.data()), chunk_.size());
        if (got == 0 && member_ended_) return 0;
        if (got == 0) throw_error(ErrorCode::corrupt, "{}: the gzip data ends too early", name_);
        stream_.next_in = chunk_.data();
        stream_.avail_in = static_cast<uInt>(got);
      }
      if (std::exchange(member_ended_, false)) ::inflateReset(&stream_);  // files put one after the other are one file
      const int result = ::inflate(&stream_, Z_NO_FLUSH);
      member_ended_ = result == Z_STREAM_END;
      if (result != Z_OK && result != Z_BUF_ERROR && !member_ended_) {
        throw_error(ErrorCode::corrupt, "{}: broken gzip data: {}", name_, stream_.msg != nullptr ? stream_.msg : "unexpected end");
      }
    }
    full_ = stream_.avail_out == 0;  // there may be more to come without further input
    return room - stream_.avail_out;
  }
  [[nodiscard]] bool ready() const override { return full_ || stream_.avail_in > 0 || from_->ready(); }

 private:
  std::unique_ptr<ByteSource> from_;
  std::string name_;
  std::vector<Bytef> chunk_;
  z_stream stream_{};
  bool member_ended_ = false;
  bool full_ = false;
};

class ZstdSource : public ByteSource {
 public:
  ZstdSource(std::unique_ptr<ByteSource> from, std::string name)
      : from_(std::move(from)), name_(std::move(name)), chunk_(kChunkBytes), stream_(::ZSTD_createDStream(), ::ZSTD_freeDStream) {
    if (!stream_) throw_error(ErrorCode::out_of_memory, "{}: no memory to decompress zstd", name_);
  }

  size_t read(char* to, size_t bytes) override {
    ZSTD_outBuffer out{to, bytes, 0};
    while (out.pos == 0) {
      if (in_.pos == in_.size && !full_) {
        const size_t got = from_->read(chunk_.data(), chunk_.size());
        if (got == 0 && frame_ended_) return 0;
        if (got == 0) throw_error(ErrorCode::corrupt, "{}: the zstd data ends too early", name_);
        in_ = {chunk_.data(), got, 0};
      }
      const size_t result = ::ZSTD_decompressStream(stream_.get(), &out, &in_);
      if (::ZSTD_isError(result) != 0) throw_error(ErrorCode::corrupt, "{}: broken zstd data: {}", name_, ::ZSTD_getErrorName(result));
      frame_ended_ = result == 0;
      full_ = out.pos == out.size && !frame_ended_;  // there may be more to come without further input
    }
    return out.pos;
  }
  [[nodiscard]] bool ready() const override { return full_ || in_.pos < in_.size || from_->ready(); }

 private:
  std::unique_ptr<ByteSource> from_;
  std::string name_;
  std::vector<char> chunk_;
  std::unique_ptr<ZSTD_DStream, size_t (*)(ZSTD_DStream*)> stream_;
  ZSTD_inBuffer in_{nullptr, 0, 0};
  bool frame_ended_ = false;
  bool full_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> descriptor_source(int fd, std::string name, const std::atomic<bool>& stop) {
  return std::make_unique<DescriptorSource>(fd, std::move(name), stop);
}

bool is_compressed(std::string_view start) { return start.starts_with(kGzip) || start.starts_with(kZstd); }

std::unique_ptr<ByteSource> decompressed(std::unique_ptr<ByteSource> source, const std::string& name) {
  std::string start(4, '\0');
  size_t have = 0;
  while (have < start.size()) {
    const size_t got = source->read(start.data() + have, start.size() - have);
    if (got == 0) break;
    have += got;
  }
  start.resize(have);
  for (const auto& [magic, advice] : kOthers) {
    if (start.starts_with(magic)) throw_error(ErrorCode::invalid_argument, "{}: {}", name, advice);
  }
  const bool gzip = start.starts_with(kGzip);
  const bool zstd = start.starts_with(kZstd);
  source = std::make_unique<PrefixedSource>(std::move(start), std::move(source));
  if (gzip) return std::make_unique<GzipSource>(std::move(source), name);
  if (zstd) return std::make_unique<ZstdSource>(std::move(source), name);
  return source;
}

}  // namespace moegen
