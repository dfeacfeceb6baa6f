#include "batch/answer_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/log.h"
#include "batch/line_reader.h"

namespace moegen {

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
  if (S_ISREG(stat_.st_mode) && S_ISREG(other.st_mode) && other.st_dev == stat_.st_dev && other.st_ino == stat_.st_ino) {
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
  if (!resume && stat_.st_size > 0) {
    throw_error(ErrorCode::invalid_argument, "{} exists: --resume keeps its answers and runs what is missing, --no-resume overwrites it", name_);
  }
}

void AnswerFile::start(bool keep, Ledger* ledger) {
  if (!regular_) return;
  if (keep) keep_lines(ledger);
  if (::ftruncate(fd_, size_) != 0) fail("cannot truncate", errno);
}

void AnswerFile::keep_lines(Ledger* ledger) {
  const int copy = ::open(name_.c_str(), O_RDONLY | O_CLOEXEC);
  if (copy < 0) fail("cannot read", errno);
  const std::atomic<bool> never{false};
  LineReader reader(descriptor_source(copy, name_, never), std::numeric_limits<size_t>::max());
  int64_t kept = 0;
  int64_t other = 0;
  Line line;
  while (reader.next(line)) {
    if (!line.complete) {
      if (line.text.front() != '{' && line.text.front() != '\0')
        throw_error(ErrorCode::corrupt, "{}: its last line is no answer: is it the right file?", name_);
      break;
    }
    size_ = line.end;
    ++kept;
    if (ledger != nullptr && !ledger->enter_answer(line.text)) ++other;
  }
  if (other > 0 && other == kept) throw_error(ErrorCode::corrupt, "{}: none of its {} lines is an answer: is it the right file?", name_, kept);
  if (other > 0) log_line("{}: {} lines are no answers; they stay as they are", name_, other);
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
