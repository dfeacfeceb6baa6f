#pragma once

#include <string>

#include "batch/progress.h"

namespace moegen {

/// A line of the metrics file for the pass that has just ended: the members of Progress, by their names.
std::string pass_metrics(const Progress& progress);

/// Its last line: {"summary": true, ...}.
std::string summary_metrics(const JobStatus& status, bool finished);

/// The same for people.
std::string summary_text(const JobStatus& status, bool finished, const std::string& output);

}  // namespace moegen
