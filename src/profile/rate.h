#pragma once

#include <chrono>
#include <vector>

namespace moegen {

/// Samples of one figure: their median, and how far they lie apart.
struct Rate {
  double median = 0;
  double low = 0;
  double high = 0;
  double noise = 0;  ///< (90th - 10th percentile) / median
};

/// At least one sample.
[[nodiscard]] Rate rate_of(std::vector<double> samples);

/// What `f` takes.
template <typename F>
[[nodiscard]] double seconds_of(const F& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// `samples` calls of `f`, which returns a rate.
template <typename F>
[[nodiscard]] Rate sample(int samples, const F& f) {
  std::vector<double> all;
  for (int i = 0; i < samples; ++i) all.push_back(f());
  return rate_of(std::move(all));
}

}  // namespace moegen
