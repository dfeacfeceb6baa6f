// The journal of a batch and its answers that wait: files of lines, and what stands behind a checksum.
#include "batch/journal.h"

#include <algorithm>

#include "base/error.h"
#include "batch/held_answers.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/temp_model.h"

namespace moegen::testing {
namespace {

void check_line(std::string_view line) {
  const std::optional<JournalRecord> record = read_journal_line(line);
  if (!record) return;
  const std::string written = journal_line(*record);
  const std::optional<JournalRecord> again = read_journal_line(std::string_view(written).substr(0, written.size() - 1));
  require(again && again->index() == record->index(), "what was read can be written and read");
  if (const auto* answer = std::get_if<JournalAnswer>(&*record)) {
    require(std::get<JournalAnswer>(*again).key == answer->key && std::get<JournalAnswer>(*again).request == answer->request, "as it was");
  } else {
    require(settings_difference(std::get<JournalRun>(*record).settings, std::get<JournalRun>(*again).settings).empty(), "with its settings");
  }
}

// What waits is given once for each key, and is the same when it was saved and read again.
void check_waiting(const std::string& path, std::string_view input) {
  try {
    HeldAnswers waiting(path);
    waiting.save([](const HeldAnswers::Put&) {});
    HeldAnswers again(path);
    require(waiting.count() == again.count(), "as many wait as were saved");
    constexpr size_t kKeyAt = 19;  // behind "request failed "
    for (size_t at = 0; at < input.size(); at = std::min(input.find('\n', at), input.size()) + 1) {
      const std::string_view line = input.substr(at);
      const std::optional<Key> key = line.size() > kKeyAt ? parse_key(line.substr(kKeyAt, 32)) : std::nullopt;
      if (!key) continue;
      const std::optional<AnswerText> first = waiting.take(*key, 0);
      const std::optional<AnswerText> second = again.take(*key, first ? first->request : 0);
      require(first.has_value() == second.has_value(), "the same keys wait");
      require(!first || (first->line == second->line && first->failed == second->failed), "with the same answers");
      require(!waiting.take(*key, 0), "an answer is given once");
    }
    require(waiting.count() == again.count(), "as many are left");
  } catch (const Error& refused) {
    require(refused.code() == ErrorCode::invalid_argument, "a file of others is refused");
  }
}

}  // namespace

void fuzz_one(std::string_view input) {
  static const TempModel folder;
  std::string file;
  for (size_t at = 0; at < input.size();) {
    const size_t end = std::min(input.find('\n', at), input.size());
    const std::string_view text = input.substr(at, end - at);
    const std::string sealed = seal(text);
    check_line(text);
    check_line(std::string_view(sealed).substr(0, sealed.size() - 1));
    file += at % 2 == 0 ? std::string(text) + "\n" : sealed;
    at = end + 1;
  }
  if (!input.ends_with('\n') && !file.empty()) file.pop_back();  // torn
  folder.write("out", "");
  folder.write("out.waiting", file);
  check_waiting((folder.dir() / "out.waiting").string(), input);
  folder.write("out.journal", file);
  const JournalRun run{.settings = {{"--seed", "0"}}, .version = "1", .input = "i", .now = "", .errors = ""};
  Ledger ledger(folder.dir());
  Journal journal((folder.dir() / "out").string());
  journal.read(ledger);
  journal.start(true, run);
  Journal next((folder.dir() / "out").string());
  next.read(ledger);
  require(next.last_run() && next.last_run()->input == "i", "a run that begins is read, whatever was there before");
}

}  // namespace moegen::testing
