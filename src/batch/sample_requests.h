#pragma once

#include <functional>
#include <string>

#include "batch/line_reader.h"
#include "moegen/batch.h"

namespace moegen {

/// What former runs have answered.
struct FormerAnswers {
  std::function<bool(const std::string& custom_id, const Line& line)> has;  ///< whether the line is answered; empty: none is
  int64_t count = 0;                                                        ///< of all
};

/// As the one of moegen/batch.h, of what is left to answer.
[[nodiscard]] Workload sample_requests(const BatchOptions& options, const std::string& model_name, const PromptCounter* counter,
                                       const FormerAnswers& former);

}  // namespace moegen
