#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace moegen {

/// Passes that follow each other, as one. Sums, but for what is said to be otherwise; seconds since the first pass began, runs that were
/// resumed one behind the other.
struct Interval {
  double begin = 0, end = 0;
  double passes = 0;
  double pass_seconds = 0, wait_seconds = 0, storage_seconds = 0;
  double predicted_seconds = 0;  ///< of those passes of which
  double predicted_of = 0;       ///< as many seconds were predicted
  double prompt_tokens = 0, generated_tokens = 0;
  double pass_tokens = 0, pass_sequences = 0;
  double tokens_per_expert = 0, experts_used = 0;
  double most_of_an_expert = 0;        ///< the most
  double kv_pages_used = 0;            ///< the most
  double memory = 0;                   ///< bytes; the most
  double waiting = 0;                  ///< sequences
  double failed = 0;                   ///< at its end
  std::optional<double> seconds_left;  ///< at its end

  void add(const Interval& next);
};

/// Errors of one code.
struct ErrorKind {
  std::string code;
  double count = 0;
  std::string first;  ///< custom_id
  double first_line = 0;
};

/// What the last line of the last run says.
struct Summary {
  bool finished = false;
  double seconds = 0, answered = 0, failed = 0, skipped = 0;
  std::optional<double> planned_seconds;
  std::string bottleneck;
  double host_memory = 0, planned_memory = 0, max_pass_tokens = 0, max_sequences = 0;
  struct Resources {
    double passes = 0, cpu = 0, ssd = 0, wait = 0;
  };
  std::optional<Resources> measured, predicted;
  std::vector<std::pair<std::string, std::string>> run;  ///< label, text
};

/// A metrics file in bounded memory: at most kMost intervals, whatever the number of passes.
struct History {
  static constexpr size_t kMost = 480;
  std::string name;  ///< of the file
  std::vector<Interval> intervals;
  std::vector<double> resumed;  ///< when further runs began
  double kv_pages = 0;
  double passes = 0, prompt_tokens = 0, generated_tokens = 0, answered = 0, failed = 0, preemptions = 0;  ///< of all runs
  std::vector<ErrorKind> errors;                                                                          ///< of all runs
  std::optional<Summary> summary;                                                                         ///< empty: the last run has not ended

  [[nodiscard]] double seconds() const { return intervals.empty() ? 0 : intervals.back().end; }
};

/// Throws Error(not_found | io | corrupt) naming file, line and field. A last line that is torn, of a run that goes on, is left out.
[[nodiscard]] History read_history(const std::filesystem::path& file);

}  // namespace moegen
