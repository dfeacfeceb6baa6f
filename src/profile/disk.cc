#include "profile/disk.h"

#include <linux/magic.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "base/checked.h"
#include "base/error.h"
#include "base/size.h"
#include "plan/weight_plan.h"
#include "profile/roofs.h"
#include "storage/async_reader.h"
#include "storage/direct_file.h"

namespace moegen {
namespace {

namespace fs = std::filesystem;

constexpr unsigned kDepths[] = {1, 2, 4, 8};
constexpr uint32_t kBlocks[] = {256 << 10, 1 << 20, 2 << 20, 4 << 20};
constexpr uint64_t kSampleBytes = 64 << 20;
constexpr uint64_t kWindowBytes = 1 << 30;
constexpr double kWarmSeconds = 1.5;
constexpr size_t kMemoryBytes = 192 << 20;  // that is read into: more than caches hold, as the slots of weights

// Why nothing can be measured; caught in disk_profile().
struct NoReads {
  std::string why;
};

std::vector<FileReader> open_shards(const fs::path& directory, uint64_t least_bytes) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() == ".safetensors" && entry.is_regular_file()) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<FileReader> files;
  uint64_t bytes = 0;
  for (const fs::path& path : paths) {
    FileReader file(path);
    if (file.size() < kBlocks[0]) continue;
    bytes += file.size();
    files.push_back(std::move(file));
  }
  if (bytes < least_bytes) files.clear();
  return files;
}

void fill(int fd, uint64_t bytes) {
  ThreadPool pool(1);
  const MappedMemory block = random_memory(1 << 20, pool);  // nothing that could be compressed
  for (uint64_t at = 0; at < bytes; at += block.size()) {
    const size_t count = std::min<uint64_t>(block.size(), bytes - at);
    if (::pwrite(fd, block.data(), count, static_cast<off_t>(at)) != static_cast<ssize_t>(count)) {
      throw NoReads{fmt::format("cannot write {} to read them again: {}", format_bytes(bytes), std::strerror(errno))};
    }
  }
  if (::fsync(fd) != 0) throw NoReads{fmt::format("cannot write: {}", std::strerror(errno))};
}

// A file without a name: whatever becomes of the process, nothing is left of it.
FileReader make_temporary(const fs::path& directory, uint64_t bytes) {
  std::string name = (directory / ".moegen-bench-XXXXXX").string();
  const int fd = ::mkstemp(name.data());
  if (fd < 0) throw NoReads{fmt::format("cannot make a file to read: {}", std::strerror(errno))};
  ::unlink(name.c_str());
  struct Close {
    int fd;
    ~Close() { ::close(fd); }
  } close{fd};
  fill(fd, bytes);
  return FileReader(fmt::format("/proc/self/fd/{}", fd));
}

// Goes through the begin of the files again and again, having read it once: as weights that stream are read in every pass, and what lies below the
// file system (a cache of the host, or of a server) may be slow with what it sees for the first time.
class Reads {
 public:
  explicit Reads(const std::vector<FileReader>& files) : memory_(kMemoryBytes, "direct reads") {
    for (const FileReader& file : files) {
      if (!files_.emplace_back(file).direct()) throw NoReads{"the file system has no direct reads"};
      most_ = std::max(most_, file.size());
      sample_bytes_ += file.size();
    }
    sample_bytes_ = std::min(kSampleBytes, sample_bytes_);
    warm();
  }

  // Whether some file has a block of that size.
  [[nodiscard]] bool holds(uint32_t block) const { return block <= most_; }

  // That the engine reads, or less where no file is as large.
  [[nodiscard]] uint32_t piece() const { return static_cast<uint32_t>(std::min<uint64_t>(kReadPieceBytes, most_ / kReadAlignment * kReadAlignment)); }

  // Bytes/s of some reads of `block` bytes, `depth` under way; of as many as there are until `stop`, if it is given.
  double rate(unsigned depth, uint32_t block, const std::atomic<bool>* stop = nullptr) {
    const std::unique_ptr<AsyncReader> reader = open_async_reader(depth, buffers(block));
    std::vector<ReadResult> results(depth);
    auto count = static_cast<uint32_t>(std::max<uint64_t>(depth, sample_bytes_ / block));
    uint32_t begun = 0;
    const double seconds = seconds_of([&] {
      for (; begun < depth; ++begun) reader->submit(next(block, begun));
      for (uint32_t ended = 0; ended < count;) {
        const size_t some = reader->wait(results);
        ended += static_cast<uint32_t>(some);
        for (const ReadResult& r : std::span(results).first(some)) {
          check(r, block);
          if (stop != nullptr) count = stop->load() ? begun : begun + 1;
          if (begun < count) reader->submit(next(block, r.tag));
          begun += begun < count ? 1 : 0;
        }
      }
    });
    return static_cast<double>(count) * block / seconds;
  }

 private:
  void warm() {
    uint64_t bytes = 0;
    const double most_seconds = holds(kReadPieceBytes) ? kWarmSeconds : 0;
    for (double gone = 0; gone < most_seconds && bytes < kWindowBytes; bytes += sample_bytes_)
      gone += seconds_of([&] { static_cast<void>(rate(kReadDepth, kReadPieceBytes)); });
    window_ = std::max(bytes, sample_bytes_);
  }

  [[nodiscard]] std::vector<std::span<std::byte>> buffers(uint32_t block) const {
    std::vector<std::span<std::byte>> out;
    for (size_t at = 0; at + block <= memory_.size(); at += block) out.emplace_back(memory_.data() + at, block);
    return out;
  }

  // Into the next buffer.
  ReadRequest next(uint32_t block, uint32_t tag) {
    offset_ = round_up<uint64_t>(offset_, kReadAlignment);
    if (gone_ + block > window_) file_idx_ = offset_ = gone_ = 0;
    while (offset_ + block > files_[file_idx_].file().size()) {
      file_idx_ = (file_idx_ + 1) % files_.size();
      offset_ = 0;
    }
    const uint64_t at = offset_;
    offset_ += block;
    gone_ += block;
    buffer_ = (buffer_ + 1) % (memory_.size() / block);
    return {files_[file_idx_].descriptor(), at, memory_.data() + buffer_ * block, block, tag, static_cast<int>(buffer_)};
  }

  static void check(const ReadResult& result, uint32_t block) {
    if (result.bytes == -EINVAL || result.bytes == -EOPNOTSUPP) throw NoReads{"the file system has no direct reads"};
    if (result.bytes < 0) throw_error(ErrorCode::io, "direct read: {}", std::strerror(static_cast<int>(-result.bytes)));
    if (result.bytes != block) throw_error(ErrorCode::io, "direct read: {} of {} bytes came", result.bytes, block);
  }

  MappedMemory memory_;
  std::vector<DirectFile> files_;
  uint64_t most_ = 0;  // bytes of a file
  uint64_t sample_bytes_ = 0;
  uint64_t window_ = UINT64_MAX;  // bytes of the files' begin that are read
  uint64_t gone_ = 0;             // of these
  size_t file_idx_ = 0;
  uint64_t offset_ = 0;
  size_t buffer_ = 0;
};

Surface read_all(const std::vector<FileReader>& files, const Effort& effort) {
  Reads reads(files);
  Surface surface;
  for (const unsigned depth : kDepths) {
    std::vector<Sampled> points;
    for (const uint32_t block : kBlocks) {
      if (reads.holds(block)) points.push_back({static_cast<double>(block), [&reads, depth, block] { return reads.rate(depth, block); }});
    }
    surface.lines.push_back({static_cast<double>(depth), sample_curve(points, effort.part(1.0 / std::size(kDepths)), SampleTime::constant)});
  }
  return surface;
}

// What is read: the shards, or else a temporary file, or where none can be made smaller shards.
std::vector<FileReader> files_of(const fs::path& directory, uint64_t file_bytes, bool& shards) {
  std::vector<FileReader> files = open_shards(directory, file_bytes);
  shards = !files.empty();
  if (shards) return files;
  try {
    files.push_back(make_temporary(directory, file_bytes));
  } catch (const NoReads&) {
    files = open_shards(directory, kLeastFileBytes);
    shards = !files.empty();
    if (!shards) throw;
  }
  return files;
}

}  // namespace

Machine::Ssd disk_profile(const fs::path& directory, uint64_t file_bytes, const Effort& effort) {
  struct statfs info {};
  if (::statfs(directory.c_str(), &info) != 0) throw_error(ErrorCode::not_found, "{}: {}", directory.string(), std::strerror(errno));
  if (!fs::is_directory(directory)) throw_error(ErrorCode::not_found, "{}: is not a directory", directory.string());
  Machine::Ssd ssd;
  ssd.bytes = info.f_blocks * static_cast<uint64_t>(info.f_bsize);
  try {
    if (info.f_type == TMPFS_MAGIC || info.f_type == RAMFS_MAGIC) throw NoReads{"the file system lies in memory"};
    bool shards = false;
    const std::vector<FileReader> files = files_of(directory, file_bytes, shards);
    ssd.by_depth = read_all(files, effort);
    ssd.read_bandwidth = ssd.by_depth.best();
    ssd.note = shards ? "direct reads of the shards" : fmt::format("direct reads of a temporary file of {}", format_bytes(file_bytes));
  } catch (const NoReads& no) {
    ssd.note = fmt::format("{}: {}", directory.string(), no.why);
  }
  return ssd;
}

Together read_beside(const fs::path& directory, uint64_t file_bytes, const std::function<double()>& compute, const Effort& effort) {
  bool shards = false;
  const std::vector<FileReader> files = files_of(directory, file_bytes, shards);
  Reads reads(files);
  std::vector<double> read_shares;
  std::vector<double> compute_shares;
  double seconds = 0;
  while (seconds < effort.seconds || static_cast<int>(read_shares.size()) < effort.rounds) {
    seconds += seconds_of([&] {
      const double compute_alone = compute();
      const double reads_alone = reads.rate(kReadDepth, reads.piece());
      std::atomic<bool> stop{false};
      double reads_together = 0;
      std::thread reader([&] { reads_together = reads.rate(kReadDepth, reads.piece(), &stop); });
      const double compute_together = compute();
      stop = true;
      reader.join();
      read_shares.push_back(reads_together / reads_alone);
      compute_shares.push_back(compute_together / compute_alone);
    });
  }
  const auto middle = [](std::vector<double>& v) {
    std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
    return std::clamp(v[v.size() / 2], 0.01, 1.0);
  };
  return {rounded(middle(read_shares)), rounded(middle(compute_shares))};
}

}  // namespace moegen
