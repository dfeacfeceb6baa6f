#pragma once

#include <cstdint>
#include <vector>

#include "moegen/options.h"

namespace moegen {

[[nodiscard]] int64_t prompt_tokens(const Workload& workload);
[[nodiscard]] int64_t output_tokens(const Workload& workload);
/// Tokens of the longest request and its answer.
[[nodiscard]] int64_t longest_sequence(const Workload& workload);
/// Mean of the tokens that its requests generate; of none 0.
[[nodiscard]] double mean_output(const Workload& workload);

/// A workload, which must outlive this, by the lengths of its requests. Made once, for it is sorted.
class ByLength {
 public:
  explicit ByLength(const Workload& workload);
  /// `count` of its requests, in their order, with lengths as those of all; all where there are no more.
  [[nodiscard]] Workload some(int64_t count) const;

 private:
  const Workload& workload_;
  std::vector<uint32_t> sorted_;
};

}  // namespace moegen
