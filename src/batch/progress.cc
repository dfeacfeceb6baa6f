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
#include "batch/line_reader.h"

namespace moegen {
namespace {

constexpr std::chrono::milliseconds kBarInterval{500};

std::string duration_text(double seconds) {
  const auto s = static_cast<int64_t>(seconds);
  if (s < 60) return fmt::format("{}s", s);
  if (s < 3600) return fmt::format("{}m{:02}s", s / 60, s % 60);
  return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
}

std::string bar_text(double share) {
  constexpr int kWidth = 24;
  const int full = static_cast<int>(share * kWidth);
  return fmt::format("[{}{}] {:.0f}% ", std::string(static_cast<size_t>(full), '#'), std::string(static_cast<size_t>(kWidth - full), '.'),
                     share * 100);
}

int64_t done(const JobStatus& status) { return status.answered + status.skipped; }

}  // namespace

std::string status_text(const JobStatus& now, const JobStatus& before) {
  const double seconds = std::max(now.seconds - before.seconds, 1e-3);
  const auto rate = [&](int64_t Progress::*tokens) { return static_cast<double>(now.engine.*tokens - before.engine.*tokens) / seconds; };
  std::string text = now.total ? fmt::format("{} of {} done", done(now), *now.total) : fmt::format("{} done", done(now));
  if (now.failed > 0) text += fmt::format(", {} failed", now.failed);
  text += fmt::format(", {:.0f} tokens/s in, {:.0f} out, {} running, KV {} of {} pages", rate(&Progress::prompt_tokens),
                      rate(&Progress::generated_tokens), now.engine.sequences_running, now.engine.kv_pages_used, now.engine.kv_pages);
  text += ", " + duration_text(now.seconds);
  if (now.total && now.answered > 0) {
    const auto left = static_cast<double>(std::max<int64_t>(0, *now.total - done(now)));
    text += fmt::format(", {} left", duration_text(left * now.seconds / static_cast<double>(now.answered)));
  }
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
  if (options_.style != ProgressStyle::none) thread_ = std::thread([this] { run(); });
}

ProgressReport::~ProgressReport() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void ProgressReport::update(const JobStatus& status) {
  const std::lock_guard lock(mutex_);
  status_ = status;
}

void ProgressReport::run() {
  const std::optional<int64_t> total = count_lines();
  const bool bar = options_.style == ProgressStyle::bar;
  const auto interval = bar ? std::min(kBarInterval, options_.interval) : options_.interval;
  JobStatus before;
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, interval, [&] { return stop_.load(); })) {
    JobStatus now = status_;
    lock.unlock();
    now.total = total;
    now.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    show(now, before);
    before = now;
    lock.lock();
  }
  if (bar) std::fputs("\r\x1b[K", stderr);
}

void ProgressReport::show(const JobStatus& now, const JobStatus& before) const {
  const std::string text = status_text(now, before);
  if (options_.style == ProgressStyle::plain) return log_line("{}", text);
  const std::string share =
      now.total ? bar_text(std::min(1.0, static_cast<double>(done(now)) / static_cast<double>(std::max<int64_t>(1, *now.total)))) : "";
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
  try {
    LineReader reader(decompressed(std::move(source), options_.input));
    for (Line line; reader.next(line) && count < options_.limit.value_or(INT64_MAX);) ++count;
  } catch (const Error&) {
    return std::nullopt;  // the job itself reports it
  }
  return count;
}

}  // namespace moegen
