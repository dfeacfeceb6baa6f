#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace moegen {

/// What ran when, written as a Chrome trace (a JSON array of events; opens in Perfetto and chrome://tracing). Times in microseconds
/// since the trace began. Any thread may add events. Allocates nothing for an event.
class Trace {
 public:
  /// Throws Error(io) where the file cannot be written.
  explicit Trace(const std::filesystem::path& path);
  /// Ends the array; what a run that was killed leaves opens too. Where something could not be written, says so on stderr.
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  /// Something that the cores did, one after the other. `layer` and `expert` -1: none.
  void add_compute(std::string_view name, int64_t layer, int64_t expert, Clock::time_point begin, Clock::time_point end);
  /// A read; many may be under way at once. `id` is its own.
  void add_read(int64_t id, int64_t layer, int64_t expert, uint64_t bytes, Clock::time_point begin, Clock::time_point end);

  /// Something on a resource that does one thing after the other: its number, its name, and what it does. `bytes` 0: it computes.
  void add_task(int resource, std::string_view resource_name, std::string_view name, int64_t layer, uint64_t bytes, Clock::time_point begin,
                Clock::time_point end);

  /// A time of the trace's own clock, for what did not run but is told.
  [[nodiscard]] Clock::time_point after(double seconds) const {
    return start_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  }

  /// Adds what ran in its lifetime, if there is a trace.
  class Span {
   public:
    Span(Trace* trace, std::string_view name, int64_t layer = -1, int64_t expert = -1) : trace_(trace), name_(name), layer_(layer), expert_(expert) {
      if (trace_ != nullptr) begin_ = Clock::now();
    }
    ~Span() {
      if (trace_ != nullptr) trace_->add_compute(name_, layer_, expert_, begin_, Clock::now());
    }
    Span(const Span&) = delete;
    Span& operator=(const Span&) = delete;

   private:
    Trace* trace_;
    std::string_view name_;
    int64_t layer_, expert_;
    Clock::time_point begin_;
  };

 private:
  [[nodiscard]] double microseconds(Clock::time_point t) const { return std::chrono::duration<double, std::micro>(t - start_).count(); }

  void print(const char* format, ...) __attribute__((format(printf, 2, 3)));

  Clock::time_point start_ = Clock::now();
  std::mutex mutex_;
  std::string name_;
  std::FILE* file_;
  int error_ = 0;       // of the first write that failed
  uint64_t named_ = 0;  // resources whose names are in the file
};

}  // namespace moegen
