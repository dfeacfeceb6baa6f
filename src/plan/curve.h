#pragma once

#include <vector>

namespace moegen {

/// A measured rate over a size. Between two points it follows a power law (a straight line in logarithms), as what is bound by memory
/// or by arithmetic does; beyond the ends it stays what it is there.
struct Curve {
  struct Point {
    double x = 0;      ///< > 0, rising from point to point
    double rate = 0;   ///< > 0, of units a second
    double noise = 0;  ///< (90th - 10th percentile) / median of its samples
    bool operator==(const Point&) const = default;
  };
  std::vector<Point> points;

  [[nodiscard]] bool empty() const { return points.empty(); }
  /// Of a curve with at least one point, x > 0.
  [[nodiscard]] double at(double x) const;
  /// The highest rate; 0 of an empty curve.
  [[nodiscard]] double best() const;
  bool operator==(const Curve&) const = default;
};

/// A rate over two sizes: curves over x for some values of y, rising. Between them as between the points of a curve.
struct Surface {
  struct Line {
    double y = 0;
    Curve curve;
    bool operator==(const Line&) const = default;
  };
  std::vector<Line> lines;

  [[nodiscard]] bool empty() const { return lines.empty(); }
  [[nodiscard]] double at(double y, double x) const;
  [[nodiscard]] double best() const;
  bool operator==(const Surface&) const = default;
};

}  // namespace moegen
