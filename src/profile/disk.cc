#include "profile/disk.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/size.h"
#include "memory/mapped_memory.h"
#include "profile/roofs.h"

namespace moegen {
namespace {

namespace fs = std::filesystem;

constexpr size_t kBlock = 1 << 20;
constexpr int64_t kSampleBlocks = 64;
constexpr double kMostSeconds = 3;

// A descriptor, closed with it.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

struct BlockPlace {
  int fd = -1;
  off_t at = 0;
};

// What is read: whole blocks of files that are open past the page cache.
struct Blocks {
  std::vector<Descriptor> files;
  std::vector<BlockPlace> places;
  std::string problem;  // why there are none

  // False, with `problem`, where the file system has no direct reads.
  bool add(const fs::path& path, uint64_t bytes) {
    files.emplace_back(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    if (files.back().get() < 0) problem = fmt::format("{}: no direct reads: {}", path.string(), std::strerror(errno));
    for (uint64_t at = 0; files.back().get() >= 0 && at + kBlock <= bytes; at += kBlock)
      places.push_back({files.back().get(), static_cast<off_t>(at)});
    return files.back().get() >= 0;
  }
};

Blocks blocks_of_shards(const fs::path& directory, uint64_t most) {
  Blocks blocks;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() != ".safetensors" || !entry.is_regular_file()) continue;
    const uint64_t left = most - std::min<uint64_t>(most, blocks.places.size() * kBlock);
    if (!blocks.add(entry.path(), std::min<uint64_t>(left, entry.file_size()))) break;
  }
  return blocks;
}

void write_all(const fs::path& path, int fd, uint64_t bytes) {
  ThreadPool pool(1);
  const MappedMemory block = random_memory(kBlock, pool);  // nothing that could be compressed
  for (uint64_t at = 0; at + kBlock <= bytes; at += kBlock) {
    if (::pwrite(fd, block.data(), kBlock, static_cast<off_t>(at)) != static_cast<ssize_t>(kBlock)) {
      throw_error(ErrorCode::io, "{}: cannot write {} to read them again: {}", path.string(), format_bytes(bytes), std::strerror(errno));
    }
  }
  if (::fsync(fd) != 0) throw_error(ErrorCode::io, "{}: {}", path.string(), std::strerror(errno));
}

// A file that has lost its name by the time it is read.
Blocks blocks_of_temporary(const fs::path& directory, uint64_t bytes) {
  std::string name = (directory / ".moegen-bench-XXXXXX").string();
  const Descriptor file(::mkstemp(name.data()));
  if (file.get() < 0) throw_error(ErrorCode::io, "{}: cannot make a file to read: {}", directory.string(), std::strerror(errno));
  struct Remove {
    const std::string& name;
    ~Remove() { ::unlink(name.c_str()); }
  } remove{name};
  write_all(name, file.get(), bytes);
  Blocks blocks;
  blocks.add(name, bytes);
  return blocks;
}

Rate read_blocks(const Blocks& blocks) {
  ThreadPool pool(kDiskDepth);
  const MappedMemory room(kDiskDepth * kBlock, "direct reads");
  const auto count = static_cast<int64_t>(blocks.places.size());
  std::atomic<int> error = 0;
  std::vector<double> rates;
  double seconds = 0;
  for (int64_t first = 0; first < count && seconds < kMostSeconds; first += kSampleBlocks) {
    const int64_t some = std::min(kSampleBlocks, count - first);
    const double took = seconds_of([&] {
      pool.parallel_for(some, [&](int64_t i, int worker) {
        const BlockPlace& place = blocks.places[static_cast<size_t>(first + i)];
        if (::pread(place.fd, room.data() + static_cast<size_t>(worker) * kBlock, kBlock, place.at) != static_cast<ssize_t>(kBlock))
          error = errno != 0 ? errno : EIO;
      });
    });
    seconds += took;
    rates.push_back(static_cast<double>(some) * kBlock / took);
  }
  if (error != 0) throw_error(ErrorCode::io, "direct read: {}", std::strerror(error));
  return rate_of(rates);
}

}  // namespace

DiskRate disk_rate(const fs::path& directory, uint64_t file_bytes) {
  struct statvfs info {};
  if (::statvfs(directory.c_str(), &info) != 0) throw_error(ErrorCode::not_found, "{}: {}", directory.string(), std::strerror(errno));
  if (!fs::is_directory(directory)) throw_error(ErrorCode::not_found, "{}: is not a directory", directory.string());
  DiskRate rate{.bytes = info.f_blocks * info.f_frsize, .read = {}, .note = {}};
  Blocks blocks = blocks_of_shards(directory, file_bytes);
  const bool shards = !blocks.places.empty();
  if (!shards && blocks.problem.empty()) blocks = blocks_of_temporary(directory, file_bytes);
  rate.note = blocks.problem;
  if (blocks.places.empty()) return rate;
  rate.read = read_blocks(blocks);
  rate.note = fmt::format("{} of {}, direct, in blocks of 1 MiB, {} at a time", format_bytes(blocks.places.size() * kBlock),
                          shards ? "the shards" : "a temporary file", kDiskDepth);
  return rate;
}

}  // namespace moegen
