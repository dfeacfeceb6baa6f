#include "profile/rate.h"

#include <algorithm>

#include "base/check.h"

namespace moegen {

namespace {

// Between the two samples that are nearest.
double percentile(const std::vector<double>& sorted, double share) {
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto i = static_cast<size_t>(at);
  const double next = sorted[std::min(i + 1, sorted.size() - 1)];
  return sorted[i] + (at - static_cast<double>(i)) * (next - sorted[i]);
}

}  // namespace

Rate rate_of(std::vector<double> samples) {
  MOEGEN_CHECK(!samples.empty());
  std::sort(samples.begin(), samples.end());
  const double median = percentile(samples, 0.5);
  return {median, samples.front(), samples.back(), (percentile(samples, 0.9) - percentile(samples, 0.1)) / median};
}

}  // namespace moegen
