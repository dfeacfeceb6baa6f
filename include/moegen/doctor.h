#pragma once

#include <filesystem>
#include <ostream>

namespace moegen {

/// The command `doctor`: what this machine has that a run depends on, and what to change to be faster, with the command that does it; as text or
/// as JSON. With a directory also its file system, and how fast files of it are read: some seconds. Changes nothing. Throws
/// Error(not_found) where there is no such directory.
void doctor(const std::filesystem::path& directory, bool json, std::ostream& out);

}  // namespace moegen
