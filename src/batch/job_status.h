#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "moegen/engine.h"

namespace moegen {

/// Failed requests with the same code, and the first of them.
struct ErrorCount {
  std::string code;
  int64_t count = 0;
  std::string first;       ///< custom_id; empty where its line has none
  int64_t first_line = 0;  ///< of the input, from 1
};

/// How far a job is. Lines are input lines that hold something.
struct JobStatus {
  int64_t answered = 0;        ///< by this run, refusals included
  int64_t failed = 0;          ///< of these, without a completion
  int64_t skipped = 0;         ///< answered by a former run
  int64_t former_answers = 0;  ///< that were there when this run began, and stay
  int64_t former_failed = 0;   ///< of these
  std::optional<int64_t> total;
  double seconds = 0;
  std::vector<ErrorCount> errors;  ///< of those that failed, by code, in the order of their coming
  Progress engine;
  uint64_t memory = 0;  ///< bytes of RAM that the process has

  [[nodiscard]] int64_t done() const { return answered + skipped; }
  /// Seconds left as of now; empty: not known.
  [[nodiscard]] std::optional<double> seconds_left() const;
};

/// What the thread of a job is at.
enum class Step { engine, reading, writing };

/// Bytes of RAM that this process has.
[[nodiscard]] uint64_t resident_memory();

/// What held passes up, or nothing: "the cores", "DRAM", "the GPU and its link", "storage", "input and output". Seconds of passes as measured and
/// predicted, and since when.
[[nodiscard]] std::string bottleneck_of(const ResourceSeconds& measured, const ResourceSeconds& predicted, double seconds);

/// "42s", "3m20s", "5h03m", "3d02h".
[[nodiscard]] std::string duration_text(double seconds);

}  // namespace moegen
