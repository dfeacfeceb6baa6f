#include "batch/job_status.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace moegen {

std::optional<double> JobStatus::seconds_left() const {
  if (!engine.seconds_left) return std::nullopt;
  return std::max(0.0, *engine.seconds_left - std::max(0.0, seconds - engine.seconds_left_at));
}

uint64_t resident_memory() {
  std::ifstream in("/proc/self/statm");
  uint64_t total = 0;
  uint64_t resident = 0;
  in >> total >> resident;
  return resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::string bottleneck_of(const ResourceSeconds& measured, const ResourceSeconds& predicted, double seconds) {
  constexpr double kMuch = 0.2;
  if (measured.passes <= 0) return "";
  if (measured.wait > kMuch * measured.passes) return "storage";
  if (seconds - measured.passes > 0.5 * seconds) return "input and output";
  if (measured.cpu <= 0) return "the GPU and its link";
  return predicted.dram > 0.5 * predicted.cpu ? "DRAM" : "the cores";
}

std::string duration_text(double seconds) {
  const auto s = static_cast<int64_t>(seconds);
  if (s < 60) return fmt::format("{}s", s);
  if (s < 3600) return fmt::format("{}m{:02}s", s / 60, s % 60);
  if (s < 48 * 3600) return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
  return fmt::format("{}d{:02}h", s / 86400, s / 3600 % 24);
}

}  // namespace moegen
