#pragma once

#include <string>
#include <utility>
#include <vector>

namespace moegen {

/// How numbers of a chart are written.
enum class Unit { count, bytes, percent, seconds };
/// "1.2k", "3.4 GiB", "12 %", "5 min".
[[nodiscard]] std::string unit_text(double value, Unit unit);

/// Values over time, as SVG in the page's colours.
struct Chart {
  struct Series {
    std::string name;
    int colour = 1;         ///< 1 to 5 of the page's palette
    std::vector<double> y;  ///< beside x; not a number: nothing there
    bool dashed = false;
  };
  std::string title;
  std::string note;  ///< in small letters below the title
  Unit unit = Unit::count;
  std::vector<double> x;  ///< seconds, rising
  std::vector<Series> series;
  bool stacked = false;                                ///< areas, one on the other
  std::vector<std::pair<std::string, double>> limits;  ///< lines across: name, value
  std::vector<double> marks;                           ///< moments, as lines from top to bottom
  double end = 0;                                      ///< of the axis of time

  /// A figure: the picture, its legend, and its numbers for the pointer.
  [[nodiscard]] std::string html() const;
};

/// Text in HTML, in elements and in quoted attributes.
[[nodiscard]] std::string escaped(const std::string& text);

}  // namespace moegen
