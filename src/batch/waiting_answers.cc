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
  if (entries_.empty() || entries_.begin()->first != next_turn_) return std::nullopt;
  ++next_turn_;
  return take_first();
}

std::optional<AnswerText> WaitingAnswers::take_first() {
  const auto first = entries_.begin();
  if (first == entries_.end()) return std::nullopt;
  Entry& entry = first->second;
  if (entry.offset >= 0) {
    fetch(entry);
  } else {
    held_bytes_ -= entry.bytes;
  }
  AnswerText answer = std::move(entry.answer);
  entries_.erase(first);
  return answer;
}

void WaitingAnswers::spill(Entry& entry) {
  file_.write(file_end_, entry.answer.line.data(), entry.bytes);
  entry.offset = static_cast<int64_t>(file_end_);
  file_end_ += entry.bytes;
  ++num_in_file_;
  std::string().swap(entry.answer.line);
}

void WaitingAnswers::fetch(Entry& entry) {
  entry.answer.line.resize(entry.bytes);
  file_.read(static_cast<uint64_t>(entry.offset), entry.answer.line.data(), entry.bytes);
  if (--num_in_file_ == 0) file_end_ = 0;  // the space is used again
}

}  // namespace moegen
