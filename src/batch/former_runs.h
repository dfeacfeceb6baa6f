#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "batch/answer_file.h"
#include "batch/journal.h"
#include "batch/ledger.h"
#include "batch/line_reader.h"
#include "moegen/batch.h"

namespace moegen {

/// What --resume finds: which answers stay, which go, and whether they answer what is asked now.
class FormerRuns {
 public:
  /// `options.changed` is stop, keep or redo. Throws Error(invalid_argument).
  FormerRuns(const BatchOptions& options, Ledger& ledger);

  /// The answers of a file of answers.
  void read(AnswerFile& file);
  /// Whether there are answers, of whatever kind.
  [[nodiscard]] bool any() const { return kept_ + retried_ + waiting_ > 0; }
  /// Answers that stay, and how many of them are errors.
  [[nodiscard]] int64_t kept() const { return kept_; }
  [[nodiscard]] int64_t kept_failed() const { return kept_failed_; }
  /// So many answers more waited for their turn.
  void add_waiting(int64_t count) { waiting_ += count; }
  /// Throws Error(invalid_argument) naming every setting that was another one when the last run began.
  void check_settings(const Journal& journal) const;
  /// Throws Error(invalid_argument) where failed requests of the last run are in a file that is not `errors` (null: none is given).
  void check_errors(const Journal& journal, const AnswerFile* errors) const;
  /// Goes over the whole input and throws Error(invalid_argument) naming the first lines that are not those that were answered, or marks them.
  void check_input(LineReader& input, const std::string& name, const std::string& folder);
  /// The same for one line, where the whole could not be looked at.
  void check_line(const Ledger::Place& place, const Line& line, const std::string& name) const;

  /// Whether a line of an output does not stay.
  [[nodiscard]] bool drops(const std::optional<WrittenAnswer>& answer) const;
  [[nodiscard]] bool drops_any() const { return retried_ + changed_ > 0; }
  /// "1200 answers stay, 3 failed ones are asked again"
  [[nodiscard]] std::string text() const;

 private:
  [[nodiscard]] bool is_retried(const WrittenAnswer& answer) const { return answer.cut_off || (answer.failed && options_.retry_failed); }

  const BatchOptions& options_;
  Ledger& ledger_;
  int64_t kept_ = 0;
  int64_t kept_failed_ = 0;
  int64_t retried_ = 0;
  int64_t waiting_ = 0;
  int64_t changed_ = 0;    // are answered again
  int64_t unchecked_ = 0;  // of kept_: the journal does not know them
};

/// What tells whether a file is the same as it was: its size and the time of its last change; empty for a pipe.
std::string identity_text(const struct stat& file);

}  // namespace moegen
