#pragma once

#include <algorithm>
#include <cstdint>

#include "model/steps.h"

namespace moegen {

/// The steps of a layer with linear attention (DeltaSpec), beside those of steps.h. Prompt tokens and generated ones take the chunked form
/// (DeltaTokens), with chunks that begin at fixed positions; a chunk that a pass cuts is gone on with in the next, with the same bits.
/// @{

/// normed -> qkv [W, projected_width()]: q, k, v, z, b, a.
void project_delta(const StepContext& c, size_t layer, const Wave& wave);

/// qkv, states -> attended, states, for the sequences [first, last) of the pass as far as they are in the wave.
void attend_delta(const StepContext& c, const Pass& pass, size_t layer, const Wave& wave, int64_t first, int64_t last);
/// @}

/// Scratch of a thread, in floats: weights of the convolution for the channels of a key head and what it gives; queries, values, what comes out,
/// decays and betas of a chunk; a gate.
[[nodiscard]] inline int64_t delta_scratch(const DeltaSpec& d) {
  if (d.key_heads == 0) return 0;
  const int64_t values = int64_t{d.group()} * d.value_dim;
  return int64_t{d.taps + 1} * (2 * d.key_dim + values) + kDeltaChunk * (d.key_dim + 2 * values + 2 * d.group()) + d.value_dim;
}

}  // namespace moegen
