#include "batch/job.h"

#include <algorithm>
#include <ctime>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "batch/answer.h"
#include "batch/metrics.h"
#include "batch/refusal.h"
#include "batch/summary.h"

namespace moegen {
namespace {

constexpr std::chrono::seconds kSyncInterval{30};

}  // namespace

// Lines that are left, less those that a former run has answered, as far as lines so far became requests.
std::optional<int64_t> Job::left() {
  const auto total = report_->total();
  if (ended_ || !total) return ended_ ? std::optional<int64_t>(0) : std::nullopt;
  const int64_t to_skip = std::max<int64_t>(0, ledger_->answers() - status_.skipped);
  const int64_t lines = std::max<int64_t>(0, *total - lines_taken_ - to_skip);
  const int64_t new_lines = lines_taken_ - status_.skipped;
  return new_lines > 0 ? lines * requests_given_ / new_lines : lines;
}

std::optional<Request> Job::next() {
  std::optional<Request> request;
  report_->at(Step::reading);
  for (Line line; !request && read_line(line);) request = take(line);
  report_->at(Step::engine);
  if (request) ++requests_given_;
  return request;
}

// False at the end, and when stopped: a pipe may then be left within a line, or within compressed data.
bool Job::read_line(Line& line) {
  if (stopping_ || ended_) return false;
  try {
    ended_ = lines_taken_ == options_.limit.value_or(std::numeric_limits<int64_t>::max()) || !input_->next(line);
  } catch (const Error&) {
    if (!stopping_) throw;
  }
  if (stopping_) ended_ = false;
  if (ended_ || !line.complete) check_whole(!ended_);
  if (stopping_ || ended_) return false;
  if (lines_taken_++ == 0) refuse_other_formats(line.text, input_name_);
  return true;
}

// A file that became shorter while it was read has lost requests, and `half` a line of one that is still written is none.
void Job::check_whole(bool half) const {
  struct stat now {};
  if (!S_ISREG(input_stat_.st_mode) || ::stat(options_.input.c_str(), &now) != 0 || !is_same_file(now, input_stat_)) return;
  if (now.st_size < input_stat_.st_size) {
    throw_error(ErrorCode::io, "{}: was cut off while it was read, from {} to {} bytes: put it right, and --resume answers the rest", input_name_,
                input_stat_.st_size, now.st_size);
  }
  if (half && now.st_size > input_stat_.st_size) {
    throw_error(ErrorCode::io, "{}: is still being written: it had {} bytes at the start and has {}: --resume answers the rest when it is whole",
                input_name_, input_stat_.st_size, now.st_size);
  }
}

std::optional<Request> Job::take(const Line& line) {
  std::optional<RequestLine> request;
  std::optional<Refusal> refusal;
  try {
    request.emplace(line);
  } catch (const Refusal& unreadable) {
    refusal = unreadable;
    if (!line.complete)
      log_line("{}: ends within line {}: if that was not all of it, --resume with the whole answers the rest", input_name_, line.number);
  }
  Place place;
  place.line = line.number;
  if (request) place.custom_id = request->custom_id();
  if (line.too_long) place.custom_id = custom_id_at_start(line);
  const Ledger::Place entry = ledger_->enter(place.custom_id.value_or(""), line);
  if (former_) former_->check_line(entry, line, input_name_);
  const uint64_t repeated = request && request->named_by_place() ? ledger_->count_text(line.text) : 0;
  if (entry.answered) {
    ++status_.skipped;
    update_status();
    return std::nullopt;
  }
  place.key = entry.key;
  place.request = entry.request;
  place.turn = turns_given_++;
  try {
    if (refusal) throw *refusal;
    if (held_ && !entry.duplicate) {
      std::optional<AnswerText> held = held_->take(place.key, options_.changed == "keep" ? 0 : place.request);
      if (held && !(held->failed && options_.retry_failed)) {
        held->request = place.request;
        answer(place, std::move(*held));
        return std::nullopt;
      }
    }
    if (entry.duplicate) refuse("duplicate_custom_id", "custom_id", "an earlier line has the same custom_id");
    ParsedRequest parsed = request->parse(models_);
    // A seed comes from the id: of a line that has only its place that is its text, and how often that came before.
    if (request->named_by_place()) parsed.request.id = answer_id(make_key('l', repeated, line.text));
    while (pending_.contains(parsed.request.id)) parsed.request.id += '\'';
    for (Prompt& prompt : parsed.request.prompts) {
      if (auto* chat = std::get_if<Chat>(&prompt)) chat->now = now_;
    }
    pending_.emplace(parsed.request.id, Pending{std::move(place), std::move(parsed.answer)});
    return std::move(parsed.request);
  } catch (const Refusal& refused) {
    count_error(place, refused.error.code);
    answer(place, {refusal_line(place.key, place.custom_id, refused.error), true});
    return std::nullopt;
  }
}

void Job::done(Completion completion) {
  auto found = pending_.extract(completion.id);
  MOEGEN_CHECK(!found.empty());
  const auto& [place, plan] = found.mapped();
  if (completion.error) {
    count_error(place, completion.error->code);
    answer(place, {refusal_line(place.key, place.custom_id, *completion.error), true});
  } else {
    MOEGEN_CHECK(!completion.prompts.empty() && completion.choices.size() % completion.prompts.size() == 0);
    answer(place, {answer_line(place.key, *place.custom_id, plan, completion, std::time(nullptr)), false});
  }
}

void Job::answer(const Place& place, AnswerText text) {
  text.key = place.key;
  text.request = place.request;
  if (waiting_) {
    waiting_->put(place.turn, std::move(text));
    while (const std::optional<AnswerText> next = waiting_->take_next()) write(*next);
  } else {
    write(text);
  }
  update_status();
}

void Job::count_error(const Place& place, const std::string& code) {
  const auto same = [&](const ErrorCount& e) { return e.code == code; };
  const auto at = std::find_if(status_.errors.begin(), status_.errors.end(), same);
  if (at != status_.errors.end()) {
    ++at->count;
  } else {
    status_.errors.push_back({code, 1, place.custom_id.value_or(""), place.line});
  }
}

void Job::write(const AnswerText& text) {
  report_->at(Step::writing);
  AnswerFile& file = text.failed && errors_ ? *errors_ : *output_;
  file.check_there();
  if (journal_) journal_->add(text.key, text.request);  // first: an answer always has its record
  file.append(text.line);
  report_->at(Step::engine);
  ++status_.answered;
  if (text.failed) ++status_.failed;
}

void Job::pass(const Progress& progress) {
  status_.engine = progress;
  update_status();
  if (metrics_) {
    status_.memory = resident_memory();
    add_metrics(pass_metrics(status_));
  }
  if (Clock::now() - sync_time_ >= kSyncInterval) sync();
}

// What the disk does not take shows here, and a power cut takes no more than what came since.
void Job::sync() {
  if (journal_) journal_->flush();
  for (AnswerFile* file : {output_.get(), errors_.get()}) {
    if (file == nullptr) continue;
    file->check_there();
    file->flush();
  }
  sync_time_ = Clock::now();
}

void Job::update_status() {
  status_.seconds = Clock::seconds_since(start_time_);
  report_->update(status_);
}

// They are no reason to stop a job; that they cannot be written is said once.
void Job::add_metrics(const std::string& line, bool last) {
  if (metrics_failed_) return;
  try {
    metrics_->append(line);
    if (last) metrics_->flush();
  } catch (const Error& e) {
    metrics_failed_ = true;
    log_line("{}; the job goes on without metrics", e.what());
  }
}

// Before the last words.
void Job::end_report(bool complete) {
  status_.seconds = Clock::seconds_since(start_time_);
  status_.total = report_->total();
  status_.memory = resident_memory();
  report_->finish(status_, complete);
}

// Answers in order are not lost because an earlier one is missing.
void Job::keep_waiting() {
  if (!held_ || !waiting_ || waiting_->empty()) return;
  held_->save([this](const HeldAnswers::Put& put) { waiting_->for_each(put); });
}

void Job::fail() {
  if (!report_) return;
  try {
    keep_waiting();
  } catch (const Error& e) {
    log_line("{}", e.what());
  }
  end_report(false);
  if (metrics_) add_metrics(summary_metrics(status_, info_, false), true);
}

int Job::finish(bool finished) {
  const bool complete = finished && ended_;
  MOEGEN_CHECK(!complete || (pending_.empty() && (!waiting_ || waiting_->empty())));
  end_report(complete);
  sync();
  if (complete && held_) held_->remove();
  if (!complete) keep_waiting();
  if (metrics_) add_metrics(summary_metrics(status_, info_, complete), true);
  if (options_.progress != "none") {
    for (const std::string& line : summary_lines(status_, info_, complete, output_->name())) log_line("{}", line);
  }
  return complete ? 0 : 130;
}

}  // namespace moegen
