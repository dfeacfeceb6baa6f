#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

namespace moegen {

/// The tokens of one sequence in a pass: positions [first_position, first_position + num_tokens), in consecutive rows.
struct PassSequence {
  int32_t first_row = 0;
  int32_t num_tokens = 0;
  int64_t first_position = 0;
  const int32_t* page_table = nullptr;  ///< [positions / kPageTokens, KvLayout::groups] up to the last position here; a page that no query from
                                        ///< the first position on sees may be gone
  int64_t prompt_len = 0;               ///< positions before it have the prompt's tokens, those from it on generated ones
  int32_t state = 0;                    ///< number of its recurrent state, which no other sequence in flight has
  bool on_cpu = false;                  ///< in a pass on a GPU: attention of its generated tokens runs on the CPU
};

/// Of its tokens in the pass, those at its end that attend on the CPU.
[[nodiscard]] inline int64_t cpu_tokens(const PassSequence& s) {
  return s.on_cpu ? std::clamp<int64_t>(s.first_position + s.num_tokens - s.prompt_len, 0, s.num_tokens) : 0;
}

/// One sweep through the layers, over any mix of prompt chunks and single generated tokens, packed without padding.
struct Pass {
  std::span<const int32_t> tokens;  ///< one a row
  std::span<const PassSequence> sequences;
  std::span<const int32_t> logit_rows;  ///< rows whose logits are wanted, ascending
};

}  // namespace moegen
