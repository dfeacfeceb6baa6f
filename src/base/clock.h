#pragma once

#include <chrono>

namespace moegen {

/// The seam to the system's clocks: the engine has all its times from here, and a test may put other clocks in their place.
class Clock {
 public:
  using time_point = std::chrono::steady_clock::time_point;
  using duration = time_point::duration;
  using WallTime = std::chrono::system_clock::time_point;

  /// What time is asked of.
  struct Source {
    virtual ~Source() = default;
    [[nodiscard]] virtual time_point now() const = 0;
    [[nodiscard]] virtual WallTime wall() const = 0;
  };

  /// Never goes back. Any thread.
  [[nodiscard]] static time_point now();
  /// The time of day. Any thread.
  [[nodiscard]] static WallTime wall();
  [[nodiscard]] static double seconds_since(time_point begin) { return std::chrono::duration<double>(now() - begin).count(); }

  /// From here on times are the source's; null: the system's again. It stays the caller's.
  static void replace(const Source* source);
};

}  // namespace moegen
