#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "moegen/engine.h"

namespace moegen {

/// How far a job is. Lines are input lines that hold something.
struct JobStatus {
  int64_t answered = 0;  ///< by this run, refusals included
  int64_t failed = 0;    ///< of these, without a completion
  int64_t skipped = 0;   ///< answered by a former run
  std::optional<int64_t> total;
  double seconds = 0;
  Progress engine;
};

/// "120 of 1500 done, 3 failed, 812 tokens/s in, 95 out, 32 running, KV 40 of 100 pages, 3m20s left". Rates are since `before`.
std::string status_text(const JobStatus& now, const JobStatus& before);

enum class ProgressStyle { none, plain, bar };
/// auto | bar | plain | none. Throws Error(invalid_argument).
ProgressStyle progress_style(const std::string& name);

/// Reports on stderr from a thread of its own, so that a stalled job shows as such: a line every `interval`, a bar more often.
/// The thread also counts the lines of a plain input file first.
class ProgressReport {
 public:
  struct Options {
    ProgressStyle style = ProgressStyle::none;
    std::string input;  ///< "-": its lines are not counted
    std::optional<int64_t> limit;
    std::chrono::milliseconds interval{10'000};
  };
  explicit ProgressReport(Options options);
  ProgressReport(const ProgressReport&) = delete;
  ProgressReport& operator=(const ProgressReport&) = delete;
  ~ProgressReport();

  /// Any thread.
  void update(const JobStatus& status);

 private:
  void run();
  void show(const JobStatus& now, const JobStatus& before) const;
  std::optional<int64_t> count_lines() const;

  Options options_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::mutex mutex_;
  std::condition_variable wake_;
  JobStatus status_;  // under mutex_
  std::atomic<bool> stop_{false};
  std::thread thread_;  // last: it uses the others
};

}  // namespace moegen
