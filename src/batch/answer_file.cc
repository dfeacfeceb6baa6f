#include "batch/answer_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <limits>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "batch/line_reader.h"

namespace moegen {
namespace {

constexpr size_t kTogether = size_t{1} << 20;

// Where a file is written anew; the lock on the file protects this one too.
std::filesystem::path rewritten_path(const std::filesystem::path& path) {
  return path.parent_path() / ("." + path.filename().string() + ".moegen-rewrite");
}

// So that a new name survives a power cut; not every file system can.
void sync_folder(const std::filesystem::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

}  // namespace

AnswerFile::AnswerFile(const std::string& path) : name_(path == "-" ? "stdout" : path) {
  fd_ = path == "-" ? ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3) : ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0) fail("cannot open", errno);
  if (::fstat(fd_, &stat_) != 0) {
    const int error = errno;
    ::close(fd_);
    fail("cannot look at it", error);
  }
  regular_ = S_ISREG(stat_.st_mode) && path != "-";
}

AnswerFile::~AnswerFile() { ::close(fd_); }

void AnswerFile::refuse_same(const struct stat& other, const std::string& other_name) const {
  if (is_same_file(stat_, other)) {
    throw_error(ErrorCode::invalid_argument, "{} and {} are the same file", name_, other_name);
  }
}

void AnswerFile::claim(std::optional<bool> resume) {
  if (!regular_) {
    if (resume.value_or(false)) throw_error(ErrorCode::invalid_argument, "{}: cannot resume: not a regular file", name_);
    return;
  }
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) throw_error(ErrorCode::invalid_argument, "{}: another run is writing to it", name_);
    fail("cannot lock", errno);
  }
  if (::fstat(fd_, &stat_) != 0) fail("cannot look at it", errno);
  if (stat_.st_nlink == 0) throw_error(ErrorCode::invalid_argument, "{}: another run has just replaced it: try again", name_);
  if (!resume && stat_.st_size > 0) {
    throw_error(ErrorCode::invalid_argument, "{} exists: --resume keeps its answers and runs what is missing, --no-resume overwrites it", name_);
  }
}

void AnswerFile::read_lines(const Look& look, std::string_view begins, size_t max_line_bytes) {
  if (!regular_) return;
  const int copy = ::open(name_.c_str(), O_RDONLY | O_CLOEXEC);
  if (copy < 0) fail("cannot read", errno);
  const std::atomic<bool> never{false};
  LineReader reader(descriptor_source(copy, name_, never), max_line_bytes);
  int64_t kept = 0;
  int64_t unknown = 0;
  Line line;
  while (reader.next(line)) {
    if (!line.complete) {
      if (!line.text.starts_with(begins) && line.text.front() != '\0')
        throw_error(ErrorCode::corrupt, "{}: its last line is no answer: is it the right file?", name_);
      break;
    }
    size_ = line.end;
    ++kept;
    if (!look(line.text)) ++unknown;
  }
  if (unknown > 0 && unknown == kept) throw_error(ErrorCode::corrupt, "{}: none of its {} lines is an answer: is it the right file?", name_, kept);
  if (unknown > 0) log_line("{}: {} lines are no answers; they stay as they are", name_, unknown);
}

void AnswerFile::start(bool keep) {
  if (!keep) size_ = 0;
  if (regular_ && ::ftruncate(fd_, size_) != 0) fail("cannot truncate", errno);
}

void AnswerFile::rewrite(const Look& drop) {
  const std::filesystem::path path = std::filesystem::canonical(name_);
  const std::filesystem::path other = rewritten_path(path);
  ::unlink(other.c_str());  // a run may have been killed while it wrote one
  const int fd = ::open(other.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) fail("cannot make a new file beside it", errno);
  try {
    AnswerFile kept(fmt::format("/proc/self/fd/{}", fd));
    kept.name_ = other.string();
    if (::fchmod(fd, stat_.st_mode & 07777) != 0) fail("cannot give its mode to a new file", errno);
    kept.claim(false);
    std::string text;  // written together: lines of a rewrite need no write each
    read_lines([&](std::string_view line) {
      if (drop(line)) return true;
      text.append(line).append("\n");
      if (text.size() >= kTogether) {
        kept.append(text);
        text.clear();
      }
      return true;
    });
    kept.append(text);
    kept.flush();
    if (::rename(other.c_str(), path.c_str()) != 0) fail("cannot put a new file in its place", errno);
    sync_folder(path.parent_path());
    std::swap(fd_, kept.fd_);
    std::swap(stat_, kept.stat_);
    std::swap(size_, kept.size_);
  } catch (...) {
    ::unlink(other.c_str());
    ::close(fd);
    throw;
  }
  ::close(fd);
}

void AnswerFile::check_there() const {
  struct stat now {};
  if (!regular_ || (::fstat(fd_, &now) == 0 && now.st_nlink > 0)) return;
  throw_error(ErrorCode::io, "{}: was removed while it was written, and the answers with it: --resume begins anew", name_);
}

void AnswerFile::append(std::string_view line) {
  for (size_t at = 0; at < line.size();) {
    const ssize_t put = ::write(fd_, line.data() + at, line.size() - at);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      const int error = errno;
      if (regular_ && at > 0 && ::ftruncate(fd_, size_) != 0) log_line("{}: its last line is torn; --resume drops it", name_);
      fail("cannot write", error);
    }
    at += static_cast<size_t>(put);
  }
  size_ += static_cast<int64_t>(line.size());
  ++lines_;
}

void AnswerFile::flush() {
  if (regular_ && ::fsync(fd_) != 0) fail("cannot write", errno);
}

void AnswerFile::fail(const char* what, int error) const {
  const std::string advice = lines_ > 0 && regular_ ? fmt::format("; {} lines of this run are complete, go on with --resume", lines_) : "";
  throw_error(ErrorCode::io, "{}: {}: {}{}", name_, what, std::strerror(error), advice);
}

}  // namespace moegen
