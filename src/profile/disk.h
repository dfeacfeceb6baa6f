#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "plan/machine.h"
#include "profile/sampling.h"

namespace moegen {

constexpr uint64_t kLeastFileBytes = 1 << 20;

/// Reads past the page cache with the engine's own reader (storage/async_reader.h), for numbers of reads under way and their sizes: a
/// checkpoint's shards where they have `file_bytes` or more together, else a temporary file of as much in their directory, which has
/// lost its name before it is filled, or where none can be made smaller shards. What is timed was read once before: weights that stream are read in
/// every pass. Where that cannot be (no direct reads, no place, no right to write) there is no rate, and the note says why. `file_bytes` is at least
/// kLeastFileBytes. Throws Error(not_found) where there is no such directory, Error(io) where a read fails.
[[nodiscard]] Machine::Ssd disk_profile(const std::filesystem::path& directory, uint64_t file_bytes, const Effort& effort);

/// Shares of their own rates that reads and `compute` have left while both run: the reads as the engine reads, compute() as long as one sample
/// is to take, returning its rate. Needs shards or a place for the temporary file, as disk_profile(), whose profile of the directory
/// has a rate.
struct Together {
  double reads = 1;
  double compute = 1;
};
[[nodiscard]] Together read_beside(const std::filesystem::path& directory, uint64_t file_bytes, const std::function<double()>& compute,
                                   const Effort& effort);

}  // namespace moegen
