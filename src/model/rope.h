#pragma once

#include <vector>

#include "model/steps.h"

namespace moegen {

/// The frequencies of the dim/2 pairs of a head, scaled as the spec says (linear; Llama-3; YaRN, arXiv 2309.00071).
[[nodiscard]] std::vector<float> rope_frequencies(const RopeSpec& spec);
/// Of each.
[[nodiscard]] std::vector<std::vector<float>> rope_frequencies(const std::vector<RopeSpec>& specs);

/// Which of the buffers' angles are those of `rope`.
[[nodiscard]] size_t rope_index(const Buffers& b, const RopeSpec& rope);
/// Turns the first `spec.dim` values of a head, in place, by the angles of a token of the pass.
void rotate(const StepContext& c, const RopeSpec& spec, size_t rope, int64_t token, float* head);

}  // namespace moegen
