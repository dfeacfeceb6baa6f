#pragma once

#include "api/model.h"
#include "moegen/options.h"

namespace moegen {

/// What was decided for a run; no weights are needed for it.
[[nodiscard]] EngineInfo engine_info(const ModelSetup& model, const EngineOptions& options);

}  // namespace moegen
