#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "plan/machine.h"
#include "plan/model_work.h"
#include "spec/model_spec.h"

namespace moegen {

constexpr int64_t kCpuRows = 1024;  ///< of a pass on a GPU: that the CPU takes at a time, of experts and of attention

/// Which experts of a layer run on the CPU in a pass on a GPU, where their weights lie, and do not cross the link: those with the fewest tokens, for
/// the link takes as long for few as for many.
struct CpuExperts {
  int64_t most_tokens = 0;  ///< that one of them has; 0: none runs on the CPU
  int64_t most_rows = 0;    ///< that those of a layer have together: the room there is for them
  /// Seconds of an expert, where rates are known: on the link; on the CPU for its weights, and for each of its tokens, whichever of both takes
  /// longer. Then only so many run on the CPU as it is done with before the link has brought the others.
  double copy_seconds = 0, weight_seconds = 0, token_seconds = 0;

  [[nodiscard]] bool any() const { return most_tokens > 0; }
  [[nodiscard]] bool balanced() const { return copy_seconds > 0; }
  [[nodiscard]] double cpu_seconds(double tokens) const { return std::max(weight_seconds, tokens * token_seconds); }
  /// Of so many experts with as many tokens each, about the share that runs on the CPU.
  [[nodiscard]] double share_of(double experts, double tokens) const;
};

/// Balanced by the machine's rates: so many run on the CPU that it is done with them when the link, over which each is `expert_bytes`, is with the
/// others. None where no layer has experts.
[[nodiscard]] CpuExperts balanced_cpu_experts(const ModelSpec& spec, const ModelWork& work, const Machine& machine, double expert_bytes,
                                              int64_t most_rows);

/// Expert e has rows [begin[e], begin[e + 1]); streams[e]: its weights are not on the device. Sets on_cpu[e] of those that run on the CPU, all others
/// to 0, and returns their rows. Depends on nothing else: the same counts, the same choice.
int64_t choose_cpu_experts(const CpuExperts& plan, std::span<const int32_t> begin, std::span<const uint8_t> streams, std::vector<uint8_t>& on_cpu);

}  // namespace moegen
