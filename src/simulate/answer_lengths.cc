#include "simulate/answer_lengths.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "simulate/workload.h"

namespace moegen {
namespace {

constexpr double kExpectedCounts = 0.25;  // answers that what was expected counts as
constexpr double kSmoothing = 2;          // ends that the chance over all tokens counts as in every interval

}  // namespace

AnswerLengths::AnswerLengths(double expected) {
  for (int i = 0; i <= kIntervals; ++i)
    begin_[static_cast<size_t>(i)] = static_cast<int64_t>(std::ceil(std::exp2(static_cast<double>(i) / kSteps))) - 1;
  all_ = {kExpectedCounts * std::max(1.0, expected), kExpectedCounts};
}

void AnswerLengths::add(int64_t tokens, bool stopped) {
  all_.tokens += static_cast<double>(tokens);
  if (stopped) all_.ends += 1;
  for (size_t i = 0; i < intervals_.size() && begin_[i] < tokens; ++i) {
    intervals_[i].tokens += static_cast<double>(std::min(tokens, begin_[i + 1]) - begin_[i]);
    if (stopped && tokens <= begin_[i + 1] && tokens > begin_[i]) intervals_[i].ends += 1;
  }
}

double AnswerLengths::chance(const Interval& interval) const {
  const double over_all = all_.ends / all_.tokens;
  return (interval.ends + kSmoothing) / (interval.tokens + kSmoothing / over_all);
}

int64_t AnswerLengths::length(int64_t tokens, int64_t limit, double luck) const {
  double left = -std::log1p(-std::min(luck, 1 - 1e-9));  // of the sum of chances
  auto at = static_cast<double>(tokens);
  const auto next = std::upper_bound(begin_.begin(), begin_.end() - 1, tokens);
  for (auto i = static_cast<size_t>(next - begin_.begin()) - 1; i < intervals_.size() && at < static_cast<double>(limit); ++i) {
    const double hazard = -std::log1p(-std::min(chance(intervals_[i]), 1 - 1e-9));
    const double end = i + 1 < intervals_.size() ? static_cast<double>(begin_[i + 1]) : std::numeric_limits<double>::infinity();
    if (left <= hazard * (end - at)) return std::clamp(static_cast<int64_t>(std::ceil(at + left / hazard)), tokens, limit);
    left -= hazard * (end - at);
    at = end;
  }
  return limit;
}

double spread(int64_t i) {
  constexpr double kGolden = 0.61803398874989485;
  double whole = 0;
  return std::modf((static_cast<double>(i) + 0.5) * kGolden, &whole);
}

Workload with_lengths(Workload workload, const AnswerLengths& lengths) {
  for (size_t i = 0; i < workload.requests.size(); ++i) {
    int32_t& tokens = workload.requests[i].output_tokens;
    tokens = static_cast<int32_t>(lengths.length(0, tokens, spread(static_cast<int64_t>(i))));
  }
  return workload;
}

}  // namespace moegen
