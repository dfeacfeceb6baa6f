#pragma once

#include <csignal>
#include <functional>

namespace moegen {

/// While it lives, the first SIGINT or SIGTERM calls `stop` (in the signal handler: what it does has to be async-signal-safe)
/// and gives both signals back to their default, so that a second one ends the process at once. One at a time.
class StopOnSignal {
 public:
  explicit StopOnSignal(std::function<void()> stop);
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;
  ~StopOnSignal();

 private:
  std::function<void()> stop_;
  struct sigaction old_int_ {};
  struct sigaction old_term_ {};
};

}  // namespace moegen
