#include "base/clock.h"

#include <atomic>

namespace moegen {
namespace {

std::atomic<const Clock::Source*> replacement{nullptr};

}  // namespace

Clock::time_point Clock::now() {
  const Source* source = replacement.load(std::memory_order_acquire);
  return source != nullptr ? source->now() : std::chrono::steady_clock::now();
}

Clock::WallTime Clock::wall() {
  const Source* source = replacement.load(std::memory_order_acquire);
  return source != nullptr ? source->wall() : std::chrono::system_clock::now();
}

void Clock::replace(const Source* source) { replacement.store(source, std::memory_order_release); }

}  // namespace moegen
