#pragma once

#include <algorithm>
#include <cstdint>

#include "model/steps.h"

namespace moegen {

/// The steps of a layer with linear attention (DeltaSpec), beside those of steps.h. A token changes the state in one way, whatever is computed
/// beside it, so passes may cut a prompt anywhere.
/// @{

/// normed -> qkv [W, projected_width()]: q, k, v, z, b, a.
void project_delta(const StepContext& c, size_t layer, const Wave& wave);

/// qkv, states -> attended, states, for the sequences [first, last) of the pass as far as they are in the wave.
void attend_delta(const StepContext& c, const Pass& pass, size_t layer, const Wave& wave, int64_t first, int64_t last);
/// @}

/// Scratch of a thread, in floats: weights of the convolution for the channels of a key head, what it gives, and a value head.
[[nodiscard]] inline int64_t delta_scratch(const DeltaSpec& d) {
  if (d.key_heads == 0) return 0;
  return int64_t{d.taps + 1} * (2 * d.key_dim + d.group() * d.value_dim) + int64_t{2} * d.value_dim;
}

}  // namespace moegen
