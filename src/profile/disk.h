#pragma once

#include <cstdint>
#include <filesystem>

#include "plan/machine.h"
#include "profile/sampling.h"

namespace moegen {

constexpr uint64_t kLeastFileBytes = 1 << 20;

/// Reads past the page cache with the engine's own reader (storage/async_reader.h), for numbers of reads under way and their sizes: a
/// checkpoint's shards where they have `file_bytes` or more together, else a temporary file of as much in their directory, which has
/// lost its name before it is filled. Where that cannot be (no direct reads, no place, no right to write) there is no rate, and
/// the note says why. `file_bytes` is at least kLeastFileBytes. Throws Error(not_found) where there is no such directory, Error(io) where
/// a read fails.
[[nodiscard]] Machine::Ssd disk_profile(const std::filesystem::path& directory, uint64_t file_bytes, const Effort& effort);

}  // namespace moegen
