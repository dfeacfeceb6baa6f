#include "plan/curve.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace moegen {
namespace {

// The power law through (x0, y0) and (x1, y1), all above 0.
double between(double x, double x0, double y0, double x1, double y1) { return y0 * std::pow(y1 / y0, std::log(x / x0) / std::log(x1 / x0)); }

}  // namespace

double Curve::at(double x) const {
  MOEGEN_CHECK(!points.empty() && x > 0);
  const auto right = std::find_if(points.begin(), points.end(), [x](const Point& p) { return p.x >= x; });
  if (right == points.end()) return points.back().rate;
  if (right == points.begin()) return right->rate;
  const auto left = right - 1;
  return between(x, left->x, left->rate, right->x, right->rate);
}

double Curve::best() const {
  double rate = 0;
  for (const Point& p : points) rate = std::max(rate, p.rate);
  return rate;
}

double Surface::at(double y, double x) const {
  MOEGEN_CHECK(!lines.empty() && y > 0);
  const auto right = std::find_if(lines.begin(), lines.end(), [y](const Line& l) { return l.y >= y; });
  if (right == lines.end()) return lines.back().curve.at(x);
  if (right == lines.begin()) return right->curve.at(x);
  const auto left = right - 1;
  return between(y, left->y, left->curve.at(x), right->y, right->curve.at(x));
}

double Surface::best() const {
  double rate = 0;
  for (const Line& l : lines) rate = std::max(rate, l.curve.best());
  return rate;
}

}  // namespace moegen
