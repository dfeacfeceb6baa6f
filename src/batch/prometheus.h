#pragma once

#include <string>

#include "batch/job_status.h"

namespace moegen {

enum class JobState { running, interrupted, finished };

/// The state of a job in Prometheus' text format 0.0.4, as node_exporter's textfile collector reads it (no timestamps). docs/running.md has the
/// names.
[[nodiscard]] std::string prometheus_text(const JobStatus& status, const EngineInfo& info, JobState state);

/// Puts `text` in the place of the file in one step: who reads it sees the old or the new one. What a killed run leaves is FILE.tmp, which
/// no collector reads. Throws Error(io).
void write_prometheus(const std::string& file, const std::string& text);

}  // namespace moegen
