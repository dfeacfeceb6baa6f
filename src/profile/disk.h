#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "profile/rate.h"

namespace moegen {

constexpr int kDiskDepth = 4;  ///< reads under way at a time

struct DiskRate {
  uint64_t bytes = 0;        ///< of the file system
  std::optional<Rate> read;  ///< bytes/s past the page cache; empty where that cannot be
  std::string note;          ///< what was read, or why nothing could be
};

/// Reads a checkpoint's shards, or else a temporary file that is gone at once, for some 3 s at most: O_DIRECT, 1 MiB blocks, four at a
/// time. Throws Error(not_found | io) where there is no such directory, or no place in it for the file.
[[nodiscard]] DiskRate disk_rate(const std::filesystem::path& directory, uint64_t file_bytes);

}  // namespace moegen
