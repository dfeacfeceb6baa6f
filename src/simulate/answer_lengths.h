#pragma once

#include <array>
#include <cstdint>

#include "moegen/options.h"

namespace moegen {

/// How long answers become that end by themselves, as far as those so far tell: the chance that a token is the last, by how many came before
/// it. Those that still run, and those that a limit ended, count as far as they got (a piecewise exponential model of survival times).
class AnswerLengths {
 public:
  /// `expected`: tokens of an answer, where nothing is known yet.
  explicit AnswerLengths(double expected = 512);

  /// An answer has so many tokens; `stopped`: its last one ended it.
  void add(int64_t tokens, bool stopped);
  /// How long one that has `tokens` already and may have `limit` becomes, in [tokens, limit]. `luck` in [0, 1): the share of all such answers
  /// that are shorter.
  [[nodiscard]] int64_t length(int64_t tokens, int64_t limit, double luck) const;

 private:
  static constexpr int kSteps = 4;  // intervals from n tokens to 2 n
  static constexpr int kIntervals = 32 * kSteps;
  struct Interval {
    double tokens = 0;  // seen in it
    double ends = 0;    // of these, the last of their answer
  };
  [[nodiscard]] double chance(const Interval& interval) const;

  std::array<int64_t, kIntervals + 1> begin_{};  // tokens before an interval
  std::array<Interval, kIntervals> intervals_{};
  Interval all_;
};

/// Numbers in [0, 1) of which any so many that follow each other are spread evenly: the luck of the i-th answer.
[[nodiscard]] double spread(int64_t i);

/// The same requests, with answers as long as is expected now.
[[nodiscard]] Workload with_lengths(Workload workload, const AnswerLengths& lengths);

}  // namespace moegen
