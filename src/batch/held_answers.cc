#include "batch/held_answers.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <limits>

#include "base/error.h"
#include "batch/journal.h"
#include "batch/line_reader.h"
#include "batch/new_file.h"

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

HeldAnswers::HeldAnswers(std::string file) : file_(std::move(file)) {
  std::error_code ignored;
  if (std::filesystem::is_symlink(file_, ignored)) throw_error(ErrorCode::io, "{}: cannot read: it is a link", file_);
  if (!std::filesystem::exists(file_, ignored)) return;
  reader_.emplace(file_);
  const std::atomic<bool> never{false};
  const int copy = ::open(file_.c_str(), O_RDONLY | O_CLOEXEC);
  if (copy < 0) throw_error(ErrorCode::io, "{}: cannot read: {}", file_, std::strerror(errno));
  LineReader lines(descriptor_source(copy, file_, never), std::numeric_limits<size_t>::max());
  bool empty = true;
  for (Line line; lines.next(line); empty = false) {
    const std::string_view text = line.text;
    if (text.size() <= kAnswerAt || seal(text.substr(kRequestAt)) != fmt::format("{}\n", text)) continue;
    const std::optional<Key> key = parse_key(text.substr(kKeyAt, kKeyDigits));
    Entry entry{.offset = static_cast<uint64_t>(line.begin) + kAnswerAt, .bytes = text.size() - kAnswerAt, .failed = text[kFailedAt] == '1'};
    std::from_chars(text.data() + kRequestAt, text.data() + kRequestAt + kRequestDigits, entry.request, 16);
    if (key) entries_[{key->high, key->low}] = entry;
  }
  if (!empty && entries_.empty())
    throw_error(ErrorCode::invalid_argument, "{}: holds no answers of moegen's, which would take its place: give it another name", file_);
}

AnswerText HeldAnswers::fetch(const Key& key, const Entry& entry) const {
  AnswerText answer{std::string(entry.bytes, '\0'), entry.failed, key, entry.request};
  reader_->read(entry.offset, answer.line.data(), entry.bytes);
  answer.line += '\n';
  return answer;
}

std::optional<AnswerText> HeldAnswers::take(const Key& key, uint64_t request) {
  const auto found = entries_.find({key.high, key.low});
  if (found == entries_.end()) return std::nullopt;
  const uint64_t known = found->second.request;
  if (request != 0 && known != 0 && known != request) return std::nullopt;
  AnswerText answer = fetch(key, found->second);
  entries_.erase(found);
  return answer;
}

void HeldAnswers::save(const std::function<void(const Put&)>& more) const {
  NewFile out(file_, file_);
  for (const auto& [key, entry] : entries_) out.write(record(fetch({key.first, key.second}, entry)));
  more([&](const AnswerText& answer) { out.write(record(answer)); });
  out.put_in_place(0600, true);
}

void HeldAnswers::remove() {
  entries_.clear();
  ::unlink(file_.c_str());
}

}  // namespace moegen
