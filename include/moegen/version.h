#pragma once

#include <string>

namespace moegen {

/// One line each: version and commit, backends compiled in and found, CPU paths compiled in and found.
std::string version_text();

}  // namespace moegen
