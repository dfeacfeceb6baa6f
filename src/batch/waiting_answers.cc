#include "batch/waiting_answers.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace moegen {
namespace {

// Moves all bytes of [data, data + bytes) by pread or pwrite.
template <typename Transfer, typename Byte>
void move_all(Transfer transfer, int fd, Byte* data, size_t bytes, int64_t offset, const std::filesystem::path& folder) {
  while (bytes > 0) {
    const ssize_t n = transfer(fd, data, bytes, offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      throw_error(ErrorCode::io, "{}: a temporary file there, for answers that wait for their turn: {}", folder.string(),
                  n < 0 ? std::strerror(errno) : "it is too short");
    }
    data += n;
    bytes -= static_cast<size_t>(n);
    offset += n;
  }
}

}  // namespace

WaitingAnswers::WaitingAnswers(std::filesystem::path folder, size_t max_bytes) : folder_(std::move(folder)), max_bytes_(max_bytes) {}

WaitingAnswers::~WaitingAnswers() {
  if (fd_ >= 0) ::close(fd_);
}

void WaitingAnswers::put(int64_t turn, AnswerText answer) {
  Entry& entry = entries_[turn];
  entry.bytes = answer.line.size();
  entry.answer = std::move(answer);
  if (turn != next_turn_ && held_bytes_ + entry.bytes > max_bytes_) {
    spill(entry);
  } else {
    held_bytes_ += entry.bytes;
  }
}

std::optional<AnswerText> WaitingAnswers::take_next() {
  const auto first = entries_.begin();
  if (first == entries_.end() || first->first != next_turn_) return std::nullopt;
  Entry& entry = first->second;
  if (entry.offset >= 0) {
    fetch(entry);
  } else {
    held_bytes_ -= entry.bytes;
  }
  AnswerText answer = std::move(entry.answer);
  entries_.erase(first);
  ++next_turn_;
  return answer;
}

void WaitingAnswers::spill(Entry& entry) {
  if (fd_ < 0) {
    std::string name = (folder_ / ".moegen-XXXXXX").string();
    fd_ = ::mkostemp(name.data(), O_CLOEXEC);
    if (fd_ < 0) throw_error(ErrorCode::io, "{}: cannot make a temporary file: {}", folder_.string(), std::strerror(errno));
    ::unlink(name.c_str());
  }
  move_all(::pwrite, fd_, entry.answer.line.data(), entry.bytes, file_end_, folder_);
  entry.offset = file_end_;
  file_end_ += static_cast<int64_t>(entry.bytes);
  ++num_in_file_;
  std::string().swap(entry.answer.line);
}

void WaitingAnswers::fetch(Entry& entry) {
  entry.answer.line.resize(entry.bytes);
  move_all(::pread, fd_, entry.answer.line.data(), entry.bytes, entry.offset, folder_);
  if (--num_in_file_ == 0) file_end_ = 0;  // the space is used again
}

}  // namespace moegen
