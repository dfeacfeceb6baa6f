#pragma once

#include <cstdint>

#include "moegen/options.h"

namespace moegen {

[[nodiscard]] int64_t prompt_tokens(const Workload& workload);
[[nodiscard]] int64_t output_tokens(const Workload& workload);
/// Tokens of the longest request and its answer.
[[nodiscard]] int64_t longest_sequence(const Workload& workload);
/// `count` of its requests, in their order, with lengths as those of all; all where there are no more.
[[nodiscard]] Workload thinned(const Workload& workload, int64_t count);

}  // namespace moegen
