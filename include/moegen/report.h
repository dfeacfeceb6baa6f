#pragma once

#include <filesystem>
#include <ostream>

namespace moegen {

/// The command `report`: one HTML page, which needs nothing else and loads nothing, of what `run-batch --metrics` wrote, also of runs that were
/// resumed or that go on. `page` "-": to `out`. Memory does not grow with the number of passes. Throws Error naming file and line.
void write_report(const std::filesystem::path& metrics, const std::filesystem::path& page, std::ostream& out);

}  // namespace moegen
