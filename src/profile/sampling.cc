#include "profile/sampling.h"

#include <cmath>

namespace moegen {
namespace {

constexpr double kMostShare = 1.0 / 3;  // of the time, for one sample

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

double rounded(double x) {
  if (x == 0) return 0;
  const double unit = std::pow(10, std::floor(std::log10(std::abs(x))) - 3);
  return unit >= 1 ? std::round(x / unit) * unit : std::round(x / unit) / std::round(1 / unit);  // 0.0123, not 0.012300000000000002
}

Curve sample_curve(const std::vector<Sampled>& points, const Effort& effort, SampleTime time) {
  const double start = now();
  std::vector<std::vector<double>> samples;
  for (size_t i = 0; i < points.size(); ++i) {
    double rate = 0;
    const double seconds = seconds_of([&] { rate = points[i].rate(); });
    samples.push_back({rate});
    if (time == SampleTime::constant || i + 1 == points.size()) continue;
    if (seconds < 5 * kSampleSeconds) continue;  // the next one is more likely to be repeated less than to take longer
    if (seconds * points[i + 1].x / points[i].x > effort.seconds * kMostShare) break;
  }
  for (int round = 1; round < effort.rounds || now() - start < effort.seconds; ++round) {
    for (size_t i = 0; i < samples.size(); ++i) samples[i].push_back(points[i].rate());
  }
  Curve curve;
  for (size_t i = 0; i < samples.size(); ++i) {
    const Rate rate = rate_of(std::move(samples[i]));
    curve.points.push_back({points[i].x, rounded(rate.median), rounded(rate.noise)});
  }
  return curve;
}

Rate sample_rate(const std::function<double()>& rate, const Effort& effort) {
  const double start = now();
  std::vector<double> samples;
  while (static_cast<int>(samples.size()) < effort.rounds || now() - start < effort.seconds) samples.push_back(rate());
  return rate_of(std::move(samples));
}

}  // namespace moegen
