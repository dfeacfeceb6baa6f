#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace moegen {
namespace {

double llama3(const RopeSpec& s, double f) {
  const double wavelength = 2 * std::numbers::pi / f;
  if (wavelength < s.original_len / s.high_freq_factor) return f;
  if (wavelength >= s.original_len / s.low_freq_factor) return f / s.factor;
  const double smooth = (s.original_len / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
  return (1 - smooth) * f / s.factor + smooth * f;
}

// The pair that turns `rotations` times over the original context.
double yarn_pair(const RopeSpec& s, double rotations) {
  return s.dim * std::log(s.original_len / (rotations * 2 * std::numbers::pi)) / (2 * std::log(s.theta));
}

double yarn(const RopeSpec& s, double f, int pair) {
  double low = yarn_pair(s, s.beta_fast);
  double high = yarn_pair(s, s.beta_slow);
  if (s.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, s.dim - 1.0);
  if (low == high) high += 0.001;
  const double ramp = std::clamp((pair - low) / (high - low), 0.0, 1.0);  // 0: keep, 1: interpolate
  return f * (1 - ramp) + f / s.factor * ramp;
}

}  // namespace

std::vector<float> rope_frequencies(const RopeSpec& spec) {
  std::vector<float> out;
  for (int i = 0; i < spec.dim / 2; ++i) {
    double f = std::pow(spec.theta, -2.0 * i / spec.dim);
    switch (spec.scaling) {
      case RopeSpec::Scaling::none:
        break;
      case RopeSpec::Scaling::linear:
        f /= spec.factor;
        break;
      case RopeSpec::Scaling::llama3:
        f = llama3(spec, f);
        break;
      case RopeSpec::Scaling::yarn:
        f = yarn(spec, f, i);
        break;
      case RopeSpec::Scaling::proportional:
        f = i < spec.pairs ? f / spec.factor : 0;
        break;
      case RopeSpec::Scaling::longrope:
        f /= spec.divisors[static_cast<size_t>(i)];
        break;
    }
    out.push_back(static_cast<float>(f));
  }
  return out;
}

std::vector<std::vector<float>> rope_frequencies(const std::vector<RopeSpec>& specs) {
  std::vector<std::vector<float>> out;
  for (const RopeSpec& spec : specs) out.push_back(rope_frequencies(spec));
  return out;
}

void rotate(const StepContext& c, const RopeSpec& spec, size_t rope, int64_t token, float* head) {
  const int64_t pairs = spec.dim / 2;
  if (pairs == 0) return;
  const float* cos = c.buffers.rope_cos[rope] + token * pairs;
  const float* sin = c.buffers.rope_sin[rope] + token * pairs;
  if (!spec.interleaved) return c.kernels.rotate(head, cos, sin, spec.dim);
  for (int64_t i = 0; i < pairs; ++i) {
    const float x = head[2 * i];
    const float y = head[2 * i + 1];
    head[2 * i] = x * cos[i] - y * sin[i];
    head[2 * i + 1] = x * sin[i] + y * cos[i];
  }
}

size_t rope_index(const Buffers& b, const RopeSpec& rope) {
  return static_cast<size_t>(std::find(b.ropes.begin(), b.ropes.end(), rope) - b.ropes.begin());
}

}  // namespace moegen
