#pragma once

#include <string>
#include <vector>

#include "batch/job_status.h"

namespace moegen {

/// A line of the metrics file for the pass that has just ended: the members of Progress, by their names. docs/running.md has them all.
std::string pass_metrics(const JobStatus& status);

/// Its last line: {"summary": true, ...}.
std::string summary_metrics(const JobStatus& status, const EngineInfo& info, bool finished);

}  // namespace moegen
