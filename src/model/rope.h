#pragma once

#include <vector>

#include "spec/model_spec.h"

namespace moegen {

/// The frequencies of the dim/2 pairs of a head, scaled as the spec says (linear; Llama-3; YaRN, arXiv 2309.00071).
[[nodiscard]] std::vector<float> rope_frequencies(const RopeSpec& spec);
/// Of each.
[[nodiscard]] std::vector<std::vector<float>> rope_frequencies(const std::vector<RopeSpec>& specs);

}  // namespace moegen
