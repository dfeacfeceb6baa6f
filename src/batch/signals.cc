#include "batch/signals.h"

#include <atomic>
#include <utility>

#include "base/check.h"

namespace moegen {
namespace {

// A handler has no other way to its context.
std::atomic<const std::function<void()>*> active_stop{nullptr};
static_assert(std::atomic<const std::function<void()>*>::is_always_lock_free);

constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP};

void on_signal(int /*signal*/) {
  struct sigaction usual {};
  usual.sa_handler = SIG_DFL;
  for (const int signal : kSignals) {
    struct sigaction now {};
    ::sigaction(signal, nullptr, &now);
    if (now.sa_handler == on_signal) ::sigaction(signal, &usual, nullptr);  // what nohup has ignored stays so
  }
  if (const auto* stop = active_stop.load()) (*stop)();
}

}  // namespace

StopOnSignal::StopOnSignal(std::function<void()> stop) : stop_(std::move(stop)) {
  MOEGEN_CHECK(active_stop.exchange(&stop_) == nullptr);
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  for (const int signal : kSignals) ::sigaddset(&action.sa_mask, signal);
  for (size_t i = 0; i < kSignals.size(); ++i) {
    ::sigaction(kSignals[i], nullptr, &old_[i]);
    if (kSignals[i] != SIGHUP || old_[i].sa_handler != SIG_IGN) ::sigaction(kSignals[i], &action, nullptr);
  }
}

StopOnSignal::~StopOnSignal() {
  for (size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &old_[i], nullptr);
  active_stop = nullptr;
}

}  // namespace moegen
