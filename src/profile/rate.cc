#include "profile/rate.h"

#include <algorithm>

#include "base/check.h"

namespace moegen {

Rate rate_of(std::vector<double> samples) {
  MOEGEN_CHECK(!samples.empty());
  std::sort(samples.begin(), samples.end());
  const size_t half = samples.size() / 2;
  const double median = samples.size() % 2 == 1 ? samples[half] : (samples[half - 1] + samples[half]) / 2;
  return {median, samples.front(), samples.back()};
}

}  // namespace moegen
