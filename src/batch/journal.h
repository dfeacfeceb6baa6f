#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/key.h"
#include "batch/answer_file.h"
#include "batch/ledger.h"
#include "moegen/engine.h"

namespace moegen {

/// A run begins: what the tokens of its answers depend on.
struct JournalRun {
  RunSettings settings;
  std::string version;  ///< of moegen
  std::string input;    ///< size and time of change of a file whose lines were found to be those answered before; empty: not known
  std::string now;      ///< what templates take for the time
  std::string errors;   ///< file of the failed requests, seen from the journal's folder; empty: none
};
/// An answer is about to be written.
struct JournalAnswer {
  Key key;               ///< of its line
  uint64_t request = 0;  ///< request_hash of the line
};
using JournalRecord = std::variant<JournalRun, JournalAnswer>;

/// "checksum text", with a line feed: how every line of the journal is written.
std::string seal(std::string_view text);
/// A line of the journal, with its line feed: docs/reliability.md has the format.
std::string journal_line(const JournalRecord& record);
/// Empty where the line is damaged, or of a kind that this version does not know.
std::optional<JournalRecord> read_journal_line(std::string_view line);

/// What differs, a line each: "--seed: was 0, is 1". Empty: nothing.
std::string settings_difference(const RunSettings& before, const RunSettings& now);

/// The file beside the output that says what the answers there are answers to. The output alone says what is answered: a record is written
/// before its answer, and one without an answer means nothing. So the two cannot disagree, and a journal that is lost costs the check only.
class Journal {
 public:
  /// Opens or makes `output` + ".journal", beside the file itself where `output` is a link. Throws Error(io).
  explicit Journal(const std::string& output);

  /// Throws Error(invalid_argument) where the file is somebody else's, which is not to be emptied.
  void refuse_strangers() const;
  /// Enters into the ledger what is there. Damaged lines are passed over, and counted for the person who resumes.
  void read(Ledger& ledger);
  /// Of the last run that is there.
  [[nodiscard]] const std::optional<JournalRun>& last_run() const { return last_run_; }
  /// Where its failed requests went; empty: to the output, or not known.
  [[nodiscard]] std::filesystem::path last_errors() const;
  /// `errors` as a record has it: relative, so that a folder may be moved with all that is in it.
  [[nodiscard]] std::string relative_to_journal(const std::string& errors) const;
  /// Makes the file ready: what was read stays if `keep`. Begins a run.
  void start(bool keep, const JournalRun& run);
  void add(const Key& key, uint64_t request) { file_.append(journal_line(JournalAnswer{key, request})); }
  void flush() { file_.flush(); }
  [[nodiscard]] AnswerFile& file() { return file_; }

 private:
  AnswerFile file_;
  std::optional<JournalRun> last_run_;
};

}  // namespace moegen
