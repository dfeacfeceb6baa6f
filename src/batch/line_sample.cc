#include "batch/line_sample.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "batch/request_line.h"

namespace moegen {
namespace {

constexpr int64_t kLines = 2000;
constexpr int64_t kMostBytes = int64_t{256} << 20;
constexpr int64_t kPartBytes = int64_t{1} << 20;
constexpr size_t kMaxLineBytes = 64 << 10;  // to parse: memory is not planned yet

// So that a line without an end is not read to its end.
class FirstBytes : public ByteSource {
 public:
  FirstBytes(std::unique_ptr<ByteSource> from, int64_t bytes) : from_(std::move(from)), left_(static_cast<size_t>(bytes)) {}
  size_t read(char* to, size_t bytes) override {
    if (left_ == 0) return 0;
    const size_t got = from_->read(to, std::min(bytes, left_));
    left_ -= got;
    return got;
  }
  [[nodiscard]] bool ready() const override { return from_->ready(); }

 private:
  std::unique_ptr<ByteSource> from_;
  size_t left_;
};

int open_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw_error(ErrorCode::io, "{}: cannot open: {}", path, std::strerror(errno));
  return fd;
}

}  // namespace

LineSample::LineSample(std::string path, int64_t limit) : path_(std::move(path)), limit_(limit) {
  const int fd = open_file(path_);
  char start[4] = {};
  struct stat status {};
  const bool readable = ::fstat(fd, &status) == 0 && ::pread(fd, start, sizeof(start), 0) >= 0;
  const int error = errno;
  ::close(fd);
  if (!readable) throw_error(ErrorCode::io, "{}: cannot read: {}", path_, std::strerror(error));
  file_bytes_ = status.st_size;
  compressed_ = is_compressed({start, sizeof(start)});
  const bool counts_from_begin = compressed_ || limit_ < file_bytes_ / 2;  // a line has two bytes at least
  if (counts_from_begin || file_bytes_ <= kMostBytes) {
    parts_ = {{0, kMostBytes}};
  } else {
    const int64_t parts = kMostBytes / kPartBytes;
    for (int64_t i = 0; i < parts; ++i) {
      const auto begin =
          static_cast<int64_t>(static_cast<double>(file_bytes_ - kPartBytes) * static_cast<double>(i) / static_cast<double>(parts - 1));
      parts_.push_back({begin, begin + kPartBytes});
    }
  }
  std::string first;
  const Scan all = scan([&](Line& line, int64_t i) {
    if (i == 0) first = line.text;
  });
  refuse_other_formats(first, path_);
  lines_read_ = all.lines;
  const double lines = static_cast<double>(all.lines) / std::max(all.share, 1e-9);
  num_lines_ = all.lines >= limit_ ? limit_ : static_cast<int64_t>(std::min(std::round(lines), static_cast<double>(limit_)));
}

void LineSample::each(const std::function<void(Line&)>& look) const {
  const int64_t every = std::max<int64_t>(1, (lines_read_ + kLines - 1) / kLines);
  static_cast<void>(scan([&](Line& line, int64_t i) {
    if (i % every != every / 2) return;
    if (parts_.size() > 1) line.number = 0;
    look(line);
  }));
}

LineSample::Scan LineSample::scan(const std::function<void(Line&, int64_t)>& look) const {
  Scan out{.lines = 0, .share = 0};
  for (const Part& part : parts_) {
    out.share += scan_part(part, [&](Line& line) {
      if (out.lines == limit_) return false;
      look(line, out.lines++);
      return true;
    });
  }
  return out;
}

// Returns the share of the file's bytes. It begins a byte before its part, so that a line that begins with the part is told from half a line.
double LineSample::scan_part(const Part& part, const std::function<bool(Line&)>& look) const {
  const int fd = open_file(path_);
  const int64_t from = std::max<int64_t>(0, part.begin - 1);
  ::lseek(fd, from, SEEK_SET);
  const int place = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);  // has the offset of the other, which is the source's
  const std::atomic<bool> never{false};
  std::unique_ptr<ByteSource> source = descriptor_source(fd, path_, never);
  if (compressed_) source = decompressed(std::move(source), path_);
  LineReader reader(std::make_unique<FirstBytes>(std::move(source), part.end - from + kPartBytes), kMaxLineBytes);
  bool ended = true;  // with the file
  try {
    for (Line line; reader.next(line);) {
      if (from + line.begin < part.begin) continue;
      ended = from + line.begin < part.end && look(line);
      if (!ended) break;
    }
  } catch (const Error&) {  // broken: the run says so when it comes there
  }
  const int64_t at = ended ? file_bytes_ : ::lseek(place, 0, SEEK_CUR);
  ::close(place);
  if (parts_.size() > 1) return static_cast<double>(part.end - part.begin) / static_cast<double>(file_bytes_);
  return std::min(1.0, static_cast<double>(compressed_ ? at : std::min(part.end, at)) / static_cast<double>(std::max<int64_t>(1, file_bytes_)));
}

}  // namespace moegen
