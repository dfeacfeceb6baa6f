#include "batch/job.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "batch/answer.h"
#include "batch/metrics.h"
#include "batch/refusal.h"
#include "batch/sample_requests.h"
#include "batch/summary.h"
#include "memory/mapped_memory.h"
#include "moegen/version.h"

namespace moegen {
namespace {

constexpr std::chrono::seconds kSyncInterval{30};

int open_input(const std::string& path) {
  const int fd = path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw_error(errno == ENOENT ? ErrorCode::not_found : ErrorCode::io, "{}: cannot open: {}", path, std::strerror(errno));
  return fd;
}

// "moegen 0.1 (commit abc)"
std::string version_line() {
  const std::string text = version_text();
  return text.substr(0, text.find('\n'));
}

// Of a line that is looked at before memory is planned. One that is longer is compared with what was answered when its turn comes.
size_t early_line_bytes(uint64_t host_memory) {
  return std::min<uint64_t>((host_memory > 0 ? host_memory : available_host_memory()) / 64, LineReader::kMaxLineBytes);
}

// For temporary files: where the output goes there is room, if it goes to a file.
std::filesystem::path folder_of(const std::string& output) {
  if (!std::filesystem::is_regular_file(output)) {
    std::error_code error;
    const std::filesystem::path folder = std::filesystem::temp_directory_path(error);
    if (error) throw_error(ErrorCode::io, "the folder for temporary files (TMPDIR): {}", error.message());
    return folder;
  }
  const std::filesystem::path folder = std::filesystem::path(output).parent_path();
  return folder.empty() ? "." : folder;
}

}  // namespace

Job::Job(const BatchOptions& options) : options_(options), input_name_(options.input == "-" ? "stdin" : options.input) {
  static_cast<void>(progress_style(options.progress));
  if (options_.resume == false && (options_.retry_failed || options_.changed != "stop"))
    throw_error(ErrorCode::invalid_argument, "--no-resume overwrites the answers that --retry-failed and --changed are about");
  if (options_.retry_failed || options_.changed != "stop") options_.resume = true;
  const int fd = open_input(options.input);
  source_ = descriptor_source(fd, input_name_, stopping_);
  if (::fstat(fd, &input_stat_) == 0 && S_ISDIR(input_stat_.st_mode)) throw_error(ErrorCode::invalid_argument, "{}: is a directory", input_name_);
  open_outputs();
  if (!options_.prometheus_file.empty()) claim_prometheus();
  ledger_.emplace(folder_of(options_.output));
  if (keeps()) look_back();
}

// It is replaced, not appended to: it must be no other file of the job, and its place one that can be written.
void Job::claim_prometheus() const {
  const std::string name = "--prometheus " + options_.prometheus_file;
  if (options_.prometheus_file == "-") throw_error(ErrorCode::invalid_argument, "{}: it is replaced as a whole, so it has to be a file", name);
  struct stat there {};
  if (::stat(options_.prometheus_file.c_str(), &there) == 0) {
    if (!S_ISREG(there.st_mode)) throw_error(ErrorCode::invalid_argument, "{}: is no regular file, which would be replaced", name);
    if (is_same_file(there, input_stat_)) throw_error(ErrorCode::invalid_argument, "{} and the input {} are the same file", name, input_name_);
    for (const AnswerFile* file : opened_) file->refuse_same(there, name);
  }
  write_prometheus(options_.prometheus_file, "");
}

void Job::open_outputs() {
  output_ = open_output(options_.output, options_.resume);
  if (!options_.error_file.empty()) errors_ = open_output(options_.error_file, options_.resume);
  // Metrics are no answers: those of a former run are overwritten without asking, or continued on resume.
  if (!options_.metrics_file.empty()) metrics_ = open_output(options_.metrics_file, false);
  if (output_->regular()) {
    journal_ = std::make_unique<Journal>(options_.output);
    refuse_others(journal_->file());
    if (!keeps()) journal_->refuse_strangers();
    journal_->file().claim(false);
    opened_.push_back(&journal_->file());
    held_.emplace(std::filesystem::canonical(options_.output).string() + ".waiting");
  }
  struct stat trace {};
  if (options_.trace_file.empty() || ::stat(options_.trace_file.c_str(), &trace) != 0) return;
  const std::string name = "the trace " + options_.trace_file;
  if (is_same_file(trace, input_stat_)) throw_error(ErrorCode::invalid_argument, "{} and {} are the same file", name, input_name_);
  for (const AnswerFile* file : opened_) file->refuse_same(trace, name);
}

std::unique_ptr<AnswerFile> Job::open_output(const std::string& path, std::optional<bool> resume) {
  auto file = std::make_unique<AnswerFile>(path);
  refuse_others(*file);
  file->claim(resume);
  opened_.push_back(file.get());
  return file;
}

void Job::refuse_others(const AnswerFile& file) const {
  file.refuse_same(input_stat_, "the input " + input_name_);
  for (const AnswerFile* other : opened_) file.refuse_same(other->identity(), other->name());
}

// Of former runs: nothing is written yet, for the model may still be refused.
void Job::look_back() {
  former_.emplace(options_, *ledger_);
  if (journal_) {
    journal_->read(*ledger_);
    former_->check_errors(*journal_, errors_.get());
  }
  former_->read(*output_);
  if (errors_) former_->read(*errors_);
  if (held_) former_->add_waiting(held_->count());
  if (metrics_) metrics_->read_lines([](std::string_view) { return true; });
  if (!former_->any() || !journal_) return;
  former_->check_settings(*journal_);
  if (journal_->last_run() && journal_->last_run()->version != version_line())
    log_line("{}: was begun by {}, this is {}: tokens may differ in ties", output_->name(), journal_->last_run()->version, version_line());
  check_input();
  if (options_.progress != "none") log_line("{}: {}", output_->name(), former_->text());
}

// Over the whole of it before the model is loaded, but where the run before has seen the same file.
void Job::check_input() {
  const std::string identity = identity_text(input_stat_);
  if (identity.empty()) {
    if (options_.changed == "redo") throw_error(ErrorCode::invalid_argument, "--changed redo: needs a file for an input, which it reads twice");
    return;
  }
  if (journal_->last_run() && journal_->last_run()->input != identity) {
    const int fd = open_input(options_.input);
    const off_t begin = ::lseek(fd, 0, SEEK_CUR);
    LineReader reader(decompressed(descriptor_source(fd, input_name_, stopping_), input_name_), early_line_bytes(options_.host_memory));
    former_->check_input(reader, input_name_, folder_of(options_.output).string());
    if (fd == STDIN_FILENO && ::lseek(fd, begin, SEEK_SET) != begin)  // the requests are read from the same descriptor
      throw_error(ErrorCode::io, "{}: cannot go back to its beginning: {}", input_name_, std::strerror(errno));
  }
  if (options_.changed == "stop" && !options_.limit) checked_input_ = identity;
}

Workload Job::workload(const std::string& model_name, const PromptCounter* counter) const {
  if (!former_ || !former_->any()) return sample_requests(options_, model_name, counter);
  KeyTable seen{folder_of(options_.output)};
  const auto has = [&](const std::string& custom_id, const Line& line) { return ledger_->look(custom_id, line, seen).answered; };
  return sample_requests(options_, model_name, counter, {has, ledger_->answers()});
}

void Job::start(const std::string& model_name, uint64_t answer_memory) {
  constexpr uint64_t kParsedBytes = 24;  // of memory for each byte of a line of small numbers
  const uint64_t share = answer_memory / 4;
  models_ = {model_name};
  models_.insert(models_.end(), options_.served_model_names.begin(), options_.served_model_names.end());
  if (former_) status_.former_answers = former_->kept();
  if (former_) status_.former_failed = former_->kept_failed();
  if (options_.ordered && held_ && former_ && former_->drops_any()) hold_back();
  for (AnswerFile* file : {output_.get(), errors_.get()}) {
    if (file == nullptr) continue;
    if (former_ && former_->drops_any()) file->rewrite([this](std::string_view line) { return former_->drops(line); });
    file->start(keeps());
  }
  if (metrics_) metrics_->start(keeps());
  const bool begins = !former_ || !former_->any();
  if (begins && !options_.limit) checked_input_ = identity_text(input_stat_);
  now_ = fmt::format("{:%Y-%m-%dT%H:%M:%S}", fmt::localtime(std::chrono::system_clock::to_time_t(Clock::wall())));
  if (!begins && journal_ && journal_->last_run() && !journal_->last_run()->now.empty()) now_ = journal_->last_run()->now;
  const std::string errors = journal_ && errors_ && errors_->regular() ? journal_->relative_to_journal(errors_->name()) : "";
  if (journal_) journal_->start(!begins, {options_.settings, version_line(), checked_input_, now_, errors});
  if (held_ && !keeps()) held_->remove();
  if (options_.ordered) waiting_ = std::make_unique<WaitingAnswers>(folder_of(options_.output), std::min<uint64_t>(share, WaitingAnswers::kMaxBytes));
  start_time_ = Clock::now();
  sync_time_ = start_time_;
  report_ = std::make_unique<ProgressReport>(ProgressReport::Options{.style = progress_style(options_.progress),
                                                                     .input = options_.input,
                                                                     .output = options_.output,
                                                                     .limit = options_.limit,
                                                                     .info = info_,
                                                                     .activity = activity_,
                                                                     .prometheus_file = options_.prometheus_file});
  report_->at(Step::reading);  // a pipe may be silent
  input_ = std::make_unique<LineReader>(decompressed(std::move(source_), input_name_),
                                        std::min<uint64_t>(share / kParsedBytes, LineReader::kMaxLineBytes));
  report_->at(Step::engine);
}

void Job::describe(const EngineInfo& info, std::function<Activity()> activity) {
  info_ = info;
  activity_ = std::move(activity);
}

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

// In order, what stands behind an answer that is made again waits for its turn once more; with failed ones in another file everything does.
void Job::hold_back() {
  bool behind = errors_ != nullptr;
  held_->save([&](const HeldAnswers::Put& put) {
    for (AnswerFile* file : {output_.get(), errors_.get()}) {
      if (file == nullptr) continue;
      file->read_lines([&](std::string_view line) {
        const std::optional<WrittenAnswer> answer = read_answer(line);
        const bool goes = former_->drops(line);
        behind = behind || goes;
        if (!behind || goes || !answer || !answer->key) return true;
        put({std::string(line), answer->failed, *answer->key, ledger_->find(*answer->key).request});
        ledger_->set_changed(*answer->key);  // so that it leaves the file
        --status_.former_answers;
        if (answer->failed) --status_.former_failed;
        return true;
      });
    }
  });
  held_.emplace(std::filesystem::canonical(options_.output).string() + ".waiting");
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
