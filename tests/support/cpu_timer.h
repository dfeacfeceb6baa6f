#pragma once

#include <time.h>

namespace moegen {

/// Processor time of this thread since it was made, so that bounds of time hold whatever else runs; under sanitizers a tenth of it, as they take
/// several times as long.
class CpuTimer {
 public:
  [[nodiscard]] double seconds() const { return now() - begin_; }

 private:
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  static constexpr double kSlowdown = 10;
#else
  static constexpr double kSlowdown = 1;
#endif
  static double now() {
    timespec t{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec)) / kSlowdown;
  }

  double begin_ = now();
};

}  // namespace moegen
