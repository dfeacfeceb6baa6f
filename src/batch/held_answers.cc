#include "batch/held_answers.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "batch/journal.h"
#include "batch/line_reader.h"

namespace moegen {
namespace {

// A line is "checksum request failed key answer".
constexpr size_t kRequestAt = 9, kRequestDigits = 16, kFailedAt = kRequestAt + kRequestDigits + 1, kKeyAt = kFailedAt + 2, kKeyDigits = 32,
                 kAnswerAt = kKeyAt + kKeyDigits + 1;

std::string record(const AnswerText& answer) {
  std::string_view line = answer.line;
  if (line.ends_with('\n')) line.remove_suffix(1);
  return seal(fmt::format("{:016x} {:d} {} {}", answer.request, answer.failed, key_text(answer.key), line));
}

}  // namespace

HeldAnswers::HeldAnswers(std::string file) : file_(std::move(file)), fd_(::open(file_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) {
  if (fd_ < 0 && errno == ENOENT) return;
  if (fd_ < 0) throw_error(ErrorCode::io, "{}: cannot read: {}", file_, std::strerror(errno));
  try {
    read();
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

void HeldAnswers::read() {
  const int copy = ::fcntl(fd_, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) throw_error(ErrorCode::io, "{}: cannot read: {}", file_, std::strerror(errno));
  const std::atomic<bool> never{false};
  LineReader reader(descriptor_source(copy, file_, never), std::numeric_limits<size_t>::max());
  bool empty = true;
  for (Line line; reader.next(line); empty = false) {
    const std::string_view text = line.text;
    if (text.size() <= kAnswerAt || seal(text.substr(kRequestAt)) != fmt::format("{}\n", text)) continue;
    const std::optional<Key> key = parse_key(text.substr(kKeyAt, kKeyDigits));
    Entry entry{.offset = line.begin + static_cast<off_t>(kAnswerAt), .bytes = text.size() - kAnswerAt, .failed = text[kFailedAt] == '1'};
    std::from_chars(text.data() + kRequestAt, text.data() + kRequestAt + kRequestDigits, entry.request, 16);
    if (key) entries_[{key->high, key->low}] = entry;
  }
  if (!empty && entries_.empty())
    throw_error(ErrorCode::invalid_argument, "{}: holds no answers of moegen's, which would take its place: give it another name", file_);
}

HeldAnswers::~HeldAnswers() {
  if (fd_ >= 0) ::close(fd_);
}

AnswerText HeldAnswers::fetch(const Key& key, const Entry& entry) const {
  AnswerText answer{std::string(entry.bytes, '\0'), entry.failed, key, entry.request};
  for (size_t at = 0; at < entry.bytes;) {
    const ssize_t got = ::pread(fd_, answer.line.data() + at, entry.bytes - at, entry.offset + static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) throw_error(ErrorCode::io, "{}: cannot read: {}", file_, got == 0 ? "it became shorter" : std::strerror(errno));
    at += static_cast<size_t>(got);
  }
  answer.line += '\n';
  return answer;
}

std::optional<AnswerText> HeldAnswers::take(const Key& key, uint64_t request) {
  const auto found = entries_.find({key.high, key.low});
  if (found == entries_.end() || (request != 0 && found->second.request != request)) return std::nullopt;
  AnswerText answer = fetch(key, found->second);
  entries_.erase(found);
  return answer;
}

void HeldAnswers::save(WaitingAnswers& waiting) {
  std::string temporary = file_ + ".XXXXXX";
  const int fd = ::mkostemp(temporary.data(), O_CLOEXEC);
  const auto fail = [&] {
    const int error = errno;
    if (fd >= 0) ::unlink(temporary.c_str());
    throw_error(ErrorCode::io, "{}: cannot write: {}", file_, std::strerror(error));
  };
  if (fd < 0) fail();
  std::FILE* out = ::fdopen(fd, "w");
  bool good = out != nullptr;
  const auto put = [&](const AnswerText& answer) {
    const std::string text = record(answer);
    good = good && std::fwrite(text.data(), 1, text.size(), out) == text.size();
  };
  for (const auto& [key, entry] : entries_) put(fetch({key.first, key.second}, entry));
  while (const std::optional<AnswerText> answer = waiting.take_first()) put(*answer);
  good = good && std::fflush(out) == 0 && ::fsync(fd) == 0;
  if (out != nullptr && std::fclose(out) != 0) good = false;
  if (!good || std::rename(temporary.c_str(), file_.c_str()) != 0) fail();
}

void HeldAnswers::remove() const { ::unlink(file_.c_str()); }

}  // namespace moegen
