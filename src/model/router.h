#pragma once

#include <cstdint>

#include "kernels/functions.h"
#include "spec/model_spec.h"

namespace moegen {

/// Where one token goes: the experts, best first (the lower index where equal), and their weights. `logits` [num_experts] is overwritten.
/// `bias`: [num_experts], with correction_bias. `experts`, `weights`: [top_k], at most as many as the chosen groups have.
void choose_experts(const Kernels& kernels, const MlpSpec& mlp, float* logits, const float* bias, int32_t* experts, float* weights);

}  // namespace moegen
