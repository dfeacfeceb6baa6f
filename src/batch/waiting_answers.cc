#include "batch/waiting_answers.h"

#include <utility>

namespace moegen {

WaitingAnswers::WaitingAnswers(std::filesystem::path folder, size_t max_bytes)
    : max_bytes_(max_bytes), file_(std::move(folder), "answers that wait for their turn") {}

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
    entry.answer.line = line_of(entry);
    if (--num_in_file_ == 0) file_end_ = 0;  // the space is used again
  } else {
    held_bytes_ -= entry.bytes;
  }
  AnswerText answer = std::move(entry.answer);
  entries_.erase(first);
  ++next_turn_;
  return answer;
}

void WaitingAnswers::for_each(const std::function<void(const AnswerText&)>& look) const {
  for (const auto& [turn, entry] : entries_) {
    const AnswerText& a = entry.answer;
    look({line_of(entry), a.failed, a.key, a.request});
  }
}

void WaitingAnswers::spill(Entry& entry) {
  file_.write(file_end_, entry.answer.line.data(), entry.bytes);
  entry.offset = static_cast<int64_t>(file_end_);
  file_end_ += entry.bytes;
  ++num_in_file_;
  std::string().swap(entry.answer.line);
}

std::string WaitingAnswers::line_of(const Entry& entry) const {
  if (entry.offset < 0) return entry.answer.line;
  std::string line(entry.bytes, '\0');
  file_.read(static_cast<uint64_t>(entry.offset), line.data(), entry.bytes);
  return line;
}

}  // namespace moegen
