#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/clock.h"
#include "batch/job_status.h"
#include "batch/prometheus.h"

namespace moegen {

/// What a line of progress is made of.
struct ProgressView {
  JobStatus now;
  JobStatus before;  ///< at the last line before which a pass ended
  Step step = Step::engine;
  double step_seconds = 0;  ///< since it began
  double pass_seconds = 0;  ///< since the last pass ended, or the start
  std::optional<Activity> activity;
  int num_layers = 0;
  std::string input, output;                ///< names, for people
  std::optional<double> predicted_seconds;  ///< of the whole job, before it began
};

/// "120 of 1500 done, 3 failed, 20s gone, about 3m20s left, 812 tokens/s in, 95 out, 32 running, bottleneck storage, memory 1.2 GiB", and behind
/// the time that is left what is waited for where nothing moves.
[[nodiscard]] std::string status_text(const ProgressView& view);
/// Why nothing moves: "pass 3 has run for 42s, layer 5 of 48, waiting for weights from storage".
[[nodiscard]] std::string stall_text(const ProgressView& view);

enum class ProgressStyle { none, plain, bar };
/// auto | bar | plain | none. Throws Error(invalid_argument).
ProgressStyle progress_style(const std::string& name);

/// Reports on stderr and to a Prometheus file from a thread of its own, so that a stalled job shows as such: a line every `interval`, a bar more
/// often. The thread also counts the lines of a plain input file first.
class ProgressReport {
 public:
  struct Options {
    ProgressStyle style = ProgressStyle::none;
    std::string input;  ///< "-": its lines are not counted
    std::string output;
    std::optional<int64_t> limit;
    std::chrono::milliseconds interval{10'000};
    EngineInfo info;
    std::function<Activity()> activity;  ///< of the engine; may be empty
    std::string prometheus_file;         ///< empty: none
  };
  explicit ProgressReport(Options options);
  ProgressReport(const ProgressReport&) = delete;
  ProgressReport& operator=(const ProgressReport&) = delete;
  ~ProgressReport();

  /// Any thread.
  /// @{
  void update(const JobStatus& status);
  void at(Step step);
  /// Lines of the input, once they are counted.
  [[nodiscard]] std::optional<int64_t> total() const;
  /// Ends the reporting; the last state goes to the Prometheus file.
  void finish(const JobStatus& status, bool finished);
  /// @}

 private:
  void run();
  void stop();
  void show(const std::string& text, const JobStatus& now) const;
  void keep_prometheus(const JobStatus& status, JobState state);
  std::optional<int64_t> count_lines() const;

  Options options_;
  Clock::time_point start_ = Clock::now();
  std::mutex mutex_;
  std::condition_variable wake_;
  JobStatus status_;  // under mutex_, as are the next three
  Step step_ = Step::engine;
  Clock::time_point step_begin_ = start_;
  Clock::time_point pass_end_ = start_;
  std::atomic<int64_t> total_{-1};
  std::atomic<bool> stop_{false};
  bool prometheus_failed_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace moegen
