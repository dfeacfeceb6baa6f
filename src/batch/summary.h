#pragma once

#include <string>
#include <vector>

#include "batch/job_status.h"

namespace moegen {

/// How a run went, for people, a line each: what was answered, tokens, what was slowest, predicted against measured, where the errors are.
[[nodiscard]] std::vector<std::string> summary_lines(const JobStatus& status, const EngineInfo& info, bool finished, const std::string& output);

}  // namespace moegen
