#include <fcntl.h>
#include <fmt/chrono.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "batch/job.h"
#include "batch/sample_requests.h"
#include "memory/mapped_memory.h"
#include "moegen/version.h"

// What a job does before its first request: its files, and what former runs have left in them.
namespace moegen {
namespace {

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
  return std::filesystem::canonical(output).parent_path();  // /dev/stdout is a file elsewhere
}

std::string waiting_file(const std::string& output) { return std::filesystem::canonical(output).string() + ".waiting"; }

}  // namespace

std::filesystem::path Job::temporary_folder() const { return folder_of(options_.output); }

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
    held_.emplace(waiting_file(options_.output));
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
    if (former_ && former_->drops_any()) file->rewrite([this](std::string_view line) { return former_->drops(read_answer(line)); });
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

// In order, what stands behind an answer that is made again waits for its turn once more; with failed ones in another file everything does.
void Job::hold_back() {
  bool behind = errors_ != nullptr;
  held_->save([&](const HeldAnswers::Put& put) {
    for (AnswerFile* file : {output_.get(), errors_.get()}) {
      if (file == nullptr) continue;
      file->read_lines([&](std::string_view line) {
        const std::optional<WrittenAnswer> answer = read_answer(line);
        const bool goes = former_->drops(answer);
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
  held_.emplace(waiting_file(options_.output));
}

}  // namespace moegen
