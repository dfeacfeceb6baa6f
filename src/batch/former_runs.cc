#include "batch/former_runs.h"

#include <fmt/format.h>

#include <chrono>
#include <limits>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "batch/refusal.h"
#include "batch/request_line.h"

namespace moegen {
namespace {

constexpr size_t kMaxNamed = 5;  // changed lines in a message
constexpr std::chrono::seconds kTellInterval{10};

constexpr const char* kWays =
    "--changed redo answers them again, --changed keep keeps their answers; or give them other custom_ids, or another output";

std::string name_of(const std::string& custom_id, int64_t number) {
  return custom_id.empty() ? fmt::format("line {}", number) : fmt::format("line {} ({:?})", number, custom_id.substr(0, 60));
}

std::string custom_id_of(const Line& line) {
  if (line.too_long) return custom_id_at_start(line).value_or("");
  try {
    return RequestLine(line).custom_id().value_or("");
  } catch (const Refusal&) {
    return "";
  }
}

// Says how far a long file is read.
class Reading {
 public:
  Reading(std::string what, bool told) : what_(std::move(what)), told_(told) {}
  void at(int64_t bytes) {
    if (!told_ || Clock::now() - last_ < kTellInterval) return;
    last_ = Clock::now();
    log_line("{}: {:.1f} GB", what_, 1e-9 * static_cast<double>(bytes));
  }

 private:
  std::string what_;
  bool told_;
  Clock::time_point last_ = Clock::now();
};

}  // namespace

FormerRuns::FormerRuns(const BatchOptions& options, Ledger& ledger) : options_(options), ledger_(ledger) {
  if (options.changed != "stop" && options.changed != "keep" && options.changed != "redo")
    throw_error(ErrorCode::invalid_argument, "--changed {}: expected stop, keep or redo", options.changed);
}

void FormerRuns::read(AnswerFile& file) {
  const double all = 1e-9 * static_cast<double>(file.identity().st_size);
  Reading reading(fmt::format("{}: reading its {:.1f} GB of answers", file.name(), all), options_.progress != "none");
  int64_t bytes = 0, repeated = 0;
  file.read_lines(
      [&](std::string_view line) {
        reading.at(bytes += static_cast<int64_t>(line.size()) + 1);
        const std::optional<WrittenAnswer> answer = read_answer(line);
        if (!answer) return false;
        const bool retried = is_retried(*answer);
        ++(retried ? retried_ : kept_);
        if (retried) return true;
        if (answer->failed) ++kept_failed_;
        const KeyTable::Entry entry = answer->key ? ledger_.find(*answer->key) : KeyTable::Entry{};
        if (entry.answered) ++repeated;
        if (entry.request == 0) ++unchecked_;
        if (answer->key) ledger_.set_answered(*answer->key);
        return true;
      },
      "{");
  if (repeated > 0) log_line("{}: {} of its answers are to requests that have one already; they stay", file.name(), repeated);
}

void FormerRuns::check_settings(const Journal& journal) const {
  if (options_.changed == "keep") return;
  if (!journal.last_run()) {
    if (options_.progress != "none") log_line("{}: no record of how its answers were made: settings are not compared", options_.output);
    return;
  }
  const std::string difference = settings_difference(journal.last_run()->settings, options_.settings);
  if (difference.empty()) return;
  throw_error(ErrorCode::invalid_argument,
              "{}: its answers were made with other settings, which would give other tokens:{}\ngo on with the former ones; or --changed keep keeps "
              "the answers and makes the others with these, --no-resume makes all with these; or take another output",
              options_.output, difference);
}

void FormerRuns::check_errors(const Journal& journal, const AnswerFile* errors) const {
  const std::filesystem::path former = journal.last_errors();
  struct stat there {};
  if (former.empty() || ::stat(former.c_str(), &there) != 0 || there.st_size == 0 || (errors != nullptr && is_same_file(there, errors->identity())))
    return;
  throw_error(ErrorCode::invalid_argument,
              "{}: its failed requests are in {}{}: go on with --error-file {}; or remove that file, and they are asked again", options_.output,
              former.string(), errors != nullptr ? ", not in " + errors->name() : "", former.string());
}

void FormerRuns::check_input(LineReader& input, const std::string& name, const std::string& folder) {
  KeyTable seen{std::filesystem::path(folder)};
  std::vector<std::string> named;
  int64_t changed = 0;
  int64_t left = options_.limit.value_or(std::numeric_limits<int64_t>::max());
  Reading reading(fmt::format("{}: comparing its requests with those that were answered", name), options_.progress != "none");
  for (Line line; left > 0 && input.next(line); --left) {
    reading.at(line.end);
    const std::string custom_id = custom_id_of(line);
    const Ledger::Place place = ledger_.look(custom_id, line, seen);
    if (!place.changed) continue;
    ++changed;
    if (named.size() < kMaxNamed) named.push_back(name_of(custom_id, line.number));
    if (options_.changed == "redo") ledger_.set_changed(place.key);
  }
  if (changed == 0 || options_.changed == "keep") return;
  if (options_.changed == "stop") {
    throw_error(ErrorCode::invalid_argument, "{}: {} requests are not those that {} answers: {}{}: {}", name, changed, options_.output,
                fmt::join(named, ", "), changed > static_cast<int64_t>(named.size()) ? ", .." : "", kWays);
  }
  changed_ += changed;
  kept_ -= changed;
}

void FormerRuns::check_line(const Ledger::Place& place, const Line& line, const std::string& name) const {
  if (!place.changed || !place.answered || options_.changed != "stop") return;
  throw_error(ErrorCode::invalid_argument, "{}: {}: is not the request that {} answers: {}", name, name_of(custom_id_of(line), line.number),
              options_.output, kWays);
}

bool FormerRuns::drops(const std::optional<WrittenAnswer>& answer) const {
  return answer && (is_retried(*answer) || (answer->key && ledger_.find(*answer->key).changed));
}

std::string FormerRuns::text() const {
  std::string out = fmt::format("{} answers stay", kept_);
  if (waiting_ > 0) out += fmt::format(", {} waited for their turn", waiting_);
  if (retried_ > 0) out += fmt::format(", {} failed ones are asked again", retried_);
  if (changed_ > 0) out += fmt::format(", {} to requests that have changed are made again", changed_);
  if (unchecked_ > 0) out += fmt::format("; the journal does not have {} of them: taken as they are", unchecked_);
  return out;
}

std::string identity_text(const struct stat& file) {
  if (!S_ISREG(file.st_mode)) return "";
  return fmt::format("{} bytes of {}.{:09}", file.st_size, file.st_mtim.tv_sec, file.st_mtim.tv_nsec);
}

}  // namespace moegen
