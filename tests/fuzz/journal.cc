// The journal of a batch: a file of lines, and what stands behind a checksum.
#include "batch/journal.h"

#include <algorithm>

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
