#include "batch/signals.h"

#include <atomic>
#include <utility>

#include "base/check.h"

namespace moegen {
namespace {

// A handler has no other way to its context.
std::atomic<const std::function<void()>*> active_stop{nullptr};
static_assert(std::atomic<const std::function<void()>*>::is_always_lock_free);

void on_signal(int /*signal*/) {
  struct sigaction usual {};
  usual.sa_handler = SIG_DFL;
  ::sigaction(SIGINT, &usual, nullptr);
  ::sigaction(SIGTERM, &usual, nullptr);
  if (const auto* stop = active_stop.load()) (*stop)();
}

}  // namespace

StopOnSignal::StopOnSignal(std::function<void()> stop) : stop_(std::move(stop)) {
  MOEGEN_CHECK(active_stop.exchange(&stop_) == nullptr);
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  ::sigaddset(&action.sa_mask, SIGINT);
  ::sigaddset(&action.sa_mask, SIGTERM);
  ::sigaction(SIGINT, &action, &old_int_);
  ::sigaction(SIGTERM, &action, &old_term_);
}

StopOnSignal::~StopOnSignal() {
  ::sigaction(SIGINT, &old_int_, nullptr);
  ::sigaction(SIGTERM, &old_term_, nullptr);
  active_stop = nullptr;
}

}  // namespace moegen
