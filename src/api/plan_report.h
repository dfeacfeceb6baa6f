#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "simulate/planner.h"

namespace moegen {

/// A decision, and what it is about.
struct PlanReport {
  std::string model;
  const ModelSpec& spec;
  const Machine& machine;
  std::string machine_origin;
  const Workload& workload;
  const Decision& decision;
  std::vector<std::string> notes;

  void print(std::ostream& out) const;
  void print_json(std::ostream& out) const;
};

/// "8.21 ms", "12.3 s", "2 h 5 min".
[[nodiscard]] std::string duration(double seconds);
/// What a job waits for most of all, in words.
[[nodiscard]] std::string bottleneck_words(const PlannedJob& job);
/// "12 requests fail: .."
[[nodiscard]] std::string fails_words(const PlannedJob& job);
/// "1,234,567".
[[nodiscard]] std::string grouped(double number);
/// The sizes of a plan in half a line.
[[nodiscard]] std::string size_words(const Plan& plan);

}  // namespace moegen
