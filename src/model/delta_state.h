#pragma once

#include "base/checked.h"
#include "kernels/functions.h"
#include "spec/model_spec.h"

namespace moegen {

/// What a sequence keeps for a layer of linear attention, in floats: for each key head, one behind the other, at these offsets
///   0        [taps, width]: last inputs of the convolution for the head's channels, that of position p in row p % taps
///   state .. decays: as in DeltaTokens, with group() heads
struct DeltaState {
  int64_t width = 0;  ///< channels of a key head: its query, its key, its values
  int64_t state = 0;
  int64_t keys = 0;
  int64_t changes = 0;
  int64_t decays = 0;
  int64_t head_floats = 0;  ///< a multiple of 16
  int64_t floats = 0;       ///< of all heads

  explicit DeltaState(const DeltaSpec& d) {
    if (d.key_heads == 0) return;
    const int64_t values = int64_t{d.group()} * d.value_dim;
    width = 2 * d.key_dim + values;
    state = int64_t{d.taps} * width;
    keys = state + d.key_dim * values;
    changes = keys + int64_t{kDeltaChunk} * d.key_dim;
    decays = changes + kDeltaChunk * values;
    head_floats = round_up<int64_t>(decays + int64_t{d.group()} * (kDeltaChunk + 1), 16);
    floats = d.key_heads * head_floats;
  }
};

}  // namespace moegen
