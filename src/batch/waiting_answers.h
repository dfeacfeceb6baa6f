#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "base/key.h"
#include "storage/temp_file.h"

namespace moegen {

struct AnswerText {
  std::string line;
  bool failed = false;
  Key key = {};          ///< of the line that it answers
  uint64_t request = 0;  ///< its request_hash
};

/// Answers that were ready before an earlier one, for outputs in the order of the input. Keeps up to `max_bytes` of them in
/// memory and puts the rest into an unnamed file in `folder`, so that one long answer does not hold all others in memory;
/// there remain about 130 bytes for each. A crash loses what waits, and --resume runs it again; of an interrupted run HeldAnswers keep it.
class WaitingAnswers {
 public:
  static constexpr size_t kMaxBytes = size_t{64} << 20;

  explicit WaitingAnswers(std::filesystem::path folder, size_t max_bytes = kMaxBytes);

  /// Throws Error(io).
  void put(int64_t turn, AnswerText answer);
  /// The answer whose turn it is, counted from 0, if it is there. Throws Error(io).
  std::optional<AnswerText> take_next();
  /// All that are there, in their order; they stay. Throws Error(io).
  void for_each(const std::function<void(const AnswerText&)>& look) const;
  [[nodiscard]] bool empty() const { return entries_.empty(); }

 private:
  struct Entry {
    AnswerText answer;    // without its line if that is in the file
    int64_t offset = -1;  // there
    size_t bytes = 0;
  };
  void spill(Entry& entry);
  [[nodiscard]] std::string line_of(const Entry& entry) const;

  size_t max_bytes_;
  std::map<int64_t, Entry> entries_;
  int64_t next_turn_ = 0;
  size_t held_bytes_ = 0;  // in memory
  TempFile file_;
  uint64_t file_end_ = 0;
  size_t num_in_file_ = 0;
};

}  // namespace moegen
