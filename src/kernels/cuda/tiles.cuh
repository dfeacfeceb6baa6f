#pragma once

#include "kernels/cuda/cuda.cuh"

namespace moegen::gpu {

// Products of tiles by a warp, as PTX's mma.m16n8k16 divides them among its threads (PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point
// type"): rows of the first operand and of sums, and columns of the second, go by quads; neighbours in a row of any of them by the place in the quad.

#ifdef __CUDACC__
/// d [16, 8] += a [16, 16] * b [16, 8] of bf16, on tensor cores.
__device__ inline void multiply_tiles(float* d, const uint32_t* a, const uint32_t* b) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#else
using emulated::multiply_tiles;
#endif

__device__ inline int warp() { return static_cast<int>(threadIdx.x / 32); }
__device__ inline int quad() { return static_cast<int>(threadIdx.x % 32 / 4); }
__device__ inline int place_in_quad() { return static_cast<int>(threadIdx.x % 4); }
/// Row `half` of the two that a thread has of tile m.
__device__ inline int tile_row(int m, int half) { return 16 * m + 8 * half + quad(); }

/// Of a first operand in shared memory, rows of tile m, 16 columns from word `at` on; `stride`: words of a row. With a stride of 4 more than a
/// multiple of 8 the rows that a load touches lie in different banks.
__device__ inline void load_tile(const uint32_t* from, int stride, int m, int at, uint32_t* out) {
  MOEGEN_UNROLL
  for (int i = 0; i < 4; ++i) out[i] = from[tile_row(m, i % 2) * stride + at + 4 * (i / 2) + place_in_quad()];
}

}  // namespace moegen::gpu
