#pragma once

#include <string>
#include <vector>

#include "doctor/facts.h"

namespace moegen {

/// One thing about a machine, and what to do about it.
struct Finding {
  enum class State { good, note, slow };
  std::string name;
  State state = State::good;
  std::string value;
  std::string advice;   ///< empty: nothing
  std::string command;  ///< that follows it; empty: none
};
[[nodiscard]] std::string_view name_of(Finding::State state);

/// Pure.
[[nodiscard]] std::vector<Finding> findings(const Facts& facts);

}  // namespace moegen
