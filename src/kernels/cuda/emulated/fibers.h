#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace moegen::emulated {

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

/// What kernels see as threadIdx, blockIdx, blockDim and gridDim.
struct Place {
  Index thread, block, block_dim, grid_dim;
  std::byte* shared = nullptr;  ///< dynamic shared memory of the block
};
[[nodiscard]] const Place& place();

struct Shape {
  unsigned blocks_x = 1, blocks_y = 1, threads = 1;
  size_t shared_bytes = 0;
  bool independent = false;  ///< threads do without barriers
};

/// Runs body(argument) once for every thread of every block: a block's threads are fibers of the calling thread, which run from barrier to barrier in
/// an order that `seed` chooses. Shared memory begins as NaNs. Ends the program where not all threads of a block, or of a warp, come to the same
/// barrier.
void run(const Shape& shape, uint64_t seed, void (*body)(const void*), const void* argument);

/// For bodies.
void block_barrier();
void warp_barrier();
/// What each thread of the warp gave to the same call, by lane; valid until the caller's next call of this or the next.
using Given = std::array<uint32_t, 6>;
[[nodiscard]] const Given* exchange(const Given& given);
/// d [16, 8] += a [16, 16] * b [16, 8] of bf16, by a warp; each thread has its part of them as PTX's mma.m16n8k16 says. Sums go along k.
void multiply_tiles(float* d, const uint32_t* a, const uint32_t* b);
[[nodiscard]] unsigned lane();

}  // namespace moegen::emulated
