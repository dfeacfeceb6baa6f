#pragma once

#include <array>
#include <csignal>
#include <functional>

namespace moegen {

/// While it lives, the first SIGINT, SIGTERM or SIGHUP (a terminal that is closed; not where nohup has it ignored) calls `stop` (in the signal
/// handler: what it does has to be async-signal-safe) and gives those it took back to their default, so that a second one ends the process at
/// once. One at a time.
class StopOnSignal {
 public:
  explicit StopOnSignal(std::function<void()> stop);
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;
  ~StopOnSignal();

 private:
  std::function<void()> stop_;
  std::array<struct sigaction, 3> old_{};
};

}  // namespace moegen
