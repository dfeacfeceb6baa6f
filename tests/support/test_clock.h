#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "base/clock.h"

namespace moegen {

/// While it lives time stands still, but for what it is told to go on by. Any thread.
class TestClock : Clock::Source {
 public:
  explicit TestClock(Clock::WallTime wall = {}) : wall_(wall) { Clock::replace(this); }
  TestClock(const TestClock&) = delete;
  TestClock& operator=(const TestClock&) = delete;
  ~TestClock() override { Clock::replace(nullptr); }

  void go_on(std::chrono::nanoseconds time) { passed_ += time.count(); }

 private:
  [[nodiscard]] Clock::time_point now() const override { return begin_ + std::chrono::nanoseconds(passed_.load()); }
  [[nodiscard]] Clock::WallTime wall() const override {
    return wall_ + std::chrono::duration_cast<Clock::WallTime::duration>(std::chrono::nanoseconds(passed_.load()));
  }

  Clock::time_point begin_ = std::chrono::steady_clock::now();
  Clock::WallTime wall_;
  std::atomic<int64_t> passed_{0};
};

/// While it lives whoever looks finds it eleven seconds later. Any thread.
class HurriedClock : public Clock::Source {
 public:
  HurriedClock() { Clock::replace(this); }
  HurriedClock(const HurriedClock&) = delete;
  HurriedClock& operator=(const HurriedClock&) = delete;
  ~HurriedClock() override { Clock::replace(nullptr); }
  [[nodiscard]] Clock::time_point now() const override { return begin_ + std::chrono::seconds(11 * looks_++); }
  [[nodiscard]] Clock::WallTime wall() const override { return {}; }

 private:
  Clock::time_point begin_ = std::chrono::steady_clock::now();
  mutable std::atomic<int> looks_{0};
};

}  // namespace moegen
