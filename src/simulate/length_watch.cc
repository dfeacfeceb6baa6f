#include "simulate/length_watch.h"

#include <algorithm>
#include <cmath>

#include "simulate/workload.h"

namespace moegen {

// The sum of the chances that a first, second, .. token is reached: 1 + (1-h) + .. + (1-h)^(limit-1).
double LengthWatch::expected(int64_t limit) const {
  const auto most = static_cast<double>(limit);
  if (ends_ == 0) return most;
  const double last = static_cast<double>(ends_) / static_cast<double>(std::max(tokens_, ends_));
  return last < 1 ? -std::expm1(most * std::log1p(-last)) / last : std::min(1.0, most);
}

Workload rest_of(const Workload& workload, int64_t count, const LengthWatch& lengths) {
  Workload out = thinned(workload, count);
  for (RequestLength& r : out.requests) r.output_tokens = static_cast<int32_t>(std::lround(lengths.expected(r.output_tokens)));
  return out;
}

}  // namespace moegen
