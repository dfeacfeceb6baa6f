#pragma once

#include <cstdint>

#include "kernels/functions.h"

namespace moegen {

/// Which experts a token goes to: softmax over all, the top_k largest (the lower index where equal), best first.
/// `logits` [num_experts] is overwritten. `experts`, `weights`: [top_k]. With `renormalize` the weights sum to 1.
void route_softmax(const Kernels& kernels, float* logits, int num_experts, int top_k, bool renormalize, int32_t* experts, float* weights);

}  // namespace moegen
