#include "batch/progress.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/size.h"
#include "batch/line_reader.h"

namespace moegen {
namespace {

constexpr std::chrono::milliseconds kBarInterval{500};
constexpr double kLongStep = 2;   // seconds from which on waiting for a file is worth a word
constexpr double kLongPass = 10;  // and a pass

double seconds_between(Clock::time_point a, Clock::time_point b) { return std::chrono::duration<double>(b - a).count(); }

std::string bar_text(double share) {
  constexpr int kWidth = 24;
  const int full = static_cast<int>(share * kWidth);
  return fmt::format("[{}{}] {:.0f}% ", std::string(static_cast<size_t>(full), '#'), std::string(static_cast<size_t>(kWidth - full), '.'),
                     share * 100);
}

ResourceSeconds since(const ResourceSeconds& now, const ResourceSeconds& before) {
  return {now.passes - before.passes, now.cpu - before.cpu, now.storage - before.storage, now.wait - before.wait, now.dram - before.dram};
}

bool waits(const ProgressView& v, Step step) { return v.step == step && v.step_seconds > kLongStep; }

std::string left_text(const ProgressView& v) {
  if ((waits(v, Step::reading) || waits(v, Step::writing)) && v.now.engine.seconds_left)
    return fmt::format("about {} left without waiting", duration_text(*v.now.engine.seconds_left));
  if (const auto left = v.now.seconds_left()) return fmt::format("about {} left", duration_text(*left));
  if (v.predicted_seconds && v.now.engine.passes == 0) return fmt::format("planned to take {}", duration_text(*v.predicted_seconds));
  return v.now.total ? "time left not known yet" : "time left not known: the end of the input is not";
}

}  // namespace

std::string stall_text(const ProgressView& v) {
  if (waits(v, Step::reading)) return fmt::format("waiting for {} to give a request for {}", v.input, duration_text(v.step_seconds));
  if (waits(v, Step::writing)) return fmt::format("waiting for {} to take answers for {}", v.output, duration_text(v.step_seconds));
  if (v.pass_seconds <= kLongPass) return "";
  if (!v.activity || !v.activity->in_pass) return fmt::format("no pass has ended for {}", duration_text(v.pass_seconds));
  const std::string pass = v.now.engine.passes == 0 ? "the first pass" : fmt::format("pass {}", v.now.engine.passes + 1);
  return fmt::format("{} has run for {}, layer {} of {}{}", pass, duration_text(v.pass_seconds), v.activity->layer + 1, v.num_layers,
                     v.activity->waits_for_storage ? ", waiting for weights from storage" : "");
}

std::string status_text(const ProgressView& v) {
  const JobStatus& now = v.now;
  const double seconds = std::max(now.engine.seconds - v.before.engine.seconds, 1e-3);
  const auto rate = [&](int64_t Progress::*tokens) { return static_cast<double>(now.engine.*tokens - v.before.engine.*tokens) / seconds; };
  std::string text = now.total ? fmt::format("{} of {} done", now.done(), *now.total) : fmt::format("{} done", now.done());
  if (now.failed > 0) text += fmt::format(", {} failed", now.failed);
  text += fmt::format(", {} gone, {}", duration_text(now.seconds), left_text(v));  // early: a terminal cuts the end
  if (const std::string stall = stall_text(v); !stall.empty()) text += ", " + stall;
  text += fmt::format(", {:.0f} tokens/s in, {:.0f} out, {} running", rate(&Progress::prompt_tokens), rate(&Progress::generated_tokens),
                      now.engine.sequences_running);
  const std::string bottleneck =
      bottleneck_of(since(now.engine.measured, v.before.engine.measured), since(now.engine.predicted, v.before.engine.predicted), seconds);
  if (!bottleneck.empty()) text += ", bottleneck " + bottleneck;
  if (now.memory > 0) text += ", memory " + format_bytes(now.memory);
  return text;
}

ProgressStyle progress_style(const std::string& name) {
  if (name == "auto") return ::isatty(STDERR_FILENO) != 0 ? ProgressStyle::bar : ProgressStyle::plain;
  if (name == "bar") return ProgressStyle::bar;
  if (name == "plain") return ProgressStyle::plain;
  if (name == "none") return ProgressStyle::none;
  throw_error(ErrorCode::invalid_argument, "progress can be auto, bar, plain or none, not '{}'", name);
}

ProgressReport::ProgressReport(Options options) : options_(std::move(options)) {
  keep_prometheus(status_, JobState::running);
  thread_ = std::thread([this] { run(); });
}

ProgressReport::~ProgressReport() { stop(); }

void ProgressReport::stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void ProgressReport::finish(const JobStatus& status, bool finished) {
  stop();
  keep_prometheus(status, finished ? JobState::finished : JobState::interrupted);
}

void ProgressReport::update(const JobStatus& status) {
  const std::lock_guard lock(mutex_);
  if (status.engine.passes != status_.engine.passes) pass_end_ = Clock::now();
  status_ = status;
}

void ProgressReport::at(Step step) {
  const std::lock_guard lock(mutex_);
  if (step != step_) step_begin_ = Clock::now();
  step_ = step;
}

std::optional<int64_t> ProgressReport::total() const {
  const int64_t total = total_.load();
  return total < 0 ? std::nullopt : std::optional(total);
}

// Metrics are no reason to stop a job; that they cannot be written is said once.
void ProgressReport::keep_prometheus(const JobStatus& status, JobState state) {
  if (options_.prometheus_file.empty()) return;
  try {
    write_prometheus(options_.prometheus_file, prometheus_text(status, options_.info, state));
    prometheus_failed_ = false;
  } catch (const Error& e) {
    if (!std::exchange(prometheus_failed_, true)) log_line("{}", e.what());
  }
}

void ProgressReport::run() {
  std::thread counting([this] {  // which may take minutes
    if (const auto counted = count_lines()) total_ = *counted;
  });
  const bool bar = options_.style == ProgressStyle::bar;
  const auto interval = bar ? std::min(kBarInterval, options_.interval) : options_.interval;
  auto prometheus_due = Clock::now() + options_.interval;
  ProgressView view;
  view.num_layers = options_.info.num_layers;
  view.input = options_.input == "-" ? "stdin" : options_.input;
  view.output = options_.output == "-" ? "stdout" : options_.output;
  view.predicted_seconds = options_.info.predicted_seconds;
  JobStatus shown;
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, interval, [&] { return stop_.load(); })) {
    const auto now = Clock::now();
    view.now = status_;
    view.step = step_;
    view.step_seconds = seconds_between(step_begin_, now);
    view.pass_seconds = seconds_between(pass_end_, now);
    lock.unlock();
    view.now.total = total();
    view.now.seconds = seconds_between(start_, now);
    view.now.memory = resident_memory();
    if (options_.activity) view.activity = options_.activity();
    if (view.now.engine.passes != shown.engine.passes) view.before = std::exchange(shown, view.now);  // rates of the last that moved
    show(status_text(view), view.now);
    if (now >= prometheus_due) {
      keep_prometheus(view.now, JobState::running);
      prometheus_due = now + options_.interval;
    }
    lock.lock();
  }
  lock.unlock();
  counting.join();
  if (bar) std::fputs("\r\x1b[K", stderr);
}

void ProgressReport::show(const std::string& text, const JobStatus& now) const {
  if (options_.style == ProgressStyle::none) return;
  if (options_.style == ProgressStyle::plain) return log_line("{}", text);
  const std::string share =
      now.total ? bar_text(std::min(1.0, static_cast<double>(now.done()) / static_cast<double>(std::max<int64_t>(1, *now.total)))) : "";
  std::string line = share + text;
  winsize window{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1) line.resize(std::min<size_t>(line.size(), window.ws_col - 1U));
  line = "\r" + line + "\x1b[K";
  std::fwrite(line.data(), 1, line.size(), stderr);
}

std::optional<int64_t> ProgressReport::count_lines() const {
  if (options_.input == "-") return std::nullopt;
  const int fd = ::open(options_.input.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return std::nullopt;
  auto source = descriptor_source(fd, options_.input, stop_);
  struct stat st {};
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return std::nullopt;
  int64_t count = 0;
  constexpr size_t kKeptBytes = 64 << 10;  // of a line, which is only counted
  try {
    LineReader reader(decompressed(std::move(source), options_.input), kKeptBytes);
    for (Line line; reader.next(line) && count < options_.limit.value_or(INT64_MAX);) ++count;
  } catch (const Error&) {
    return std::nullopt;  // the job itself reports it
  }
  return stop_ ? std::nullopt : std::optional(count);
}

}  // namespace moegen
