#pragma once

#include <cstdint>
#include <filesystem>
#include <ostream>

#include "moegen/options.h"

namespace moegen {

/// `count` equal requests. Throws Error(invalid_argument).
[[nodiscard]] Workload equal_requests(int64_t prompt, int64_t output, int64_t count);
/// Of a CSV file with the columns prompt_tokens and output_tokens. Throws Error with file and line.
[[nodiscard]] Workload read_lengths(const std::filesystem::path& file);

/// The commands `plan` and `simulate`: the sizes for a job, why, and how long it will take, to `out`. Nothing runs, no weights are read.
/// `simulate` needs only config.json (`engine.model` may be that file) and a machine file, of a machine that need not be here; with `trace_file`
/// it writes the time line of its first passes. `static_batches`: as the published MoE-Gen system does it (docs/simulation.md). Both throw Error.
/// @{
void show_plan(const EngineOptions& engine, bool json, std::ostream& out);
void show_simulation(const EngineOptions& engine, bool static_batches, bool json, std::ostream& out);
/// @}

}  // namespace moegen
