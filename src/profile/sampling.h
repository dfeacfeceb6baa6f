#pragma once

#include <functional>
#include <vector>

#include "plan/curve.h"
#include "profile/rate.h"
#include "profile/workbench.h"

namespace moegen {

constexpr double kSampleSeconds = 0.004;  ///< at least, of something that can be repeated

/// How long something is measured.
struct Effort {
  int rounds = 3;      ///< samples of each figure, at least
  double seconds = 1;  ///< rounds go on until then

  [[nodiscard]] Effort part(double share) const { return {rounds, seconds * share}; }
};

/// A rate at one size, sampled by a call.
struct Sampled {
  double x = 0;
  std::function<double()> rate;
};

/// The curve through `points`, by rising x. They are sampled in turns, so that a disturbance hits all of them a little and shows as noise.
/// Where samples take time as x does, points that would cost more than a third of the time each are left out, and all behind them:
/// a curve stays what it is at its end.
enum class SampleTime { grows_with_x, constant };
[[nodiscard]] Curve sample_curve(const std::vector<Sampled>& points, const Effort& effort, SampleTime time = SampleTime::grows_with_x);
/// A figure that is no curve.
[[nodiscard]] Rate sample_rate(const std::function<double()>& rate, const Effort& effort);

/// To four digits: what is behind them is noise.
[[nodiscard]] double rounded(double x);

/// Units/s of `run`, which does some work and returns its units; it is called again until some milliseconds have passed.
template <typename Run>
[[nodiscard]] double units_per_second(const Run& run) {
  double units = 0;
  double seconds = 0;
  while (seconds < kSampleSeconds) seconds += seconds_of([&] { units += run(); });
  return units / seconds;
}

/// Seconds that one call of `run` takes, of as many as fill some milliseconds.
template <typename Run>
[[nodiscard]] double seconds_per_call(const Run& run) {
  return 1 / units_per_second([&] {
           run();
           return 1.0;
         });
}

}  // namespace moegen
