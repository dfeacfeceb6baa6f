#include "kernels/route.h"

namespace moegen {

void route_softmax(const Kernels& kernels, float* logits, int num_experts, int top_k, bool renormalize, int32_t* experts, float* weights) {
  const float sum = kernels.exp_sum(logits, kernels.maximum(logits, num_experts), logits, num_experts);
  float chosen = 0;
  for (int j = 0; j < top_k; ++j) {
    int best = -1;
    for (int e = 0; e < num_experts; ++e) {
      if (logits[e] >= 0 && (best < 0 || logits[e] > logits[best])) best = e;
    }
    if (best < 0) best = j;  // a NaN in the hidden state: any expert, the result is NaN anyway
    experts[j] = best;
    weights[j] = logits[best] / sum;
    chosen += weights[j];
    logits[best] = -1;  // out of the next round
  }
  if (!renormalize) return;
  for (int j = 0; j < top_k; ++j) weights[j] /= chosen;
}

}  // namespace moegen
