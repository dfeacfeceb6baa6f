#pragma once

#include <vector>

#include "spec/quantisation.h"
#include "spec/tensor_table.h"

namespace moegen {

/// Whether a matrix [rows, cols] is packed in whole words: of neighbouring rows, where the scheme packs these.
[[nodiscard]] bool is_whole_words(const TensorSpec& whole, const WeightScheme& scheme);

/// What a checkpoint has in the place of a plain matrix [rows, cols] that is coded by `scheme`, other than in FP8: codes, scales and, where it has
/// them, zero points. Scales whose type config.json does not tell have no `quantised`. `zeros_in_bytes`: compressed-tensors' are not packed.
/// Throws Error(unsupported) naming a matrix that is not of whole groups.
[[nodiscard]] std::vector<TensorSpec> coded_tensors(const TensorSpec& whole, const WeightScheme& scheme, bool zeros_in_bytes);

}  // namespace moegen
