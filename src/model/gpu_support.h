#pragma once

#include "spec/model_spec.h"

namespace moegen {

/// Throws Error(unsupported) that names what a model has and the GPU's steps (gpu_steps.h) have not.
void check_gpu_support(const ModelSpec& spec);

}  // namespace moegen
