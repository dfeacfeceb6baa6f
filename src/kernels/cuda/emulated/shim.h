#pragma once

// Stands for CUDA where g++ reads a kernel: its words, and what a warp exchanges, by way of fibers.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/check.h"
#include "kernels/cuda/emulated/fibers.h"

#define __device__
#define MOEGEN_UNROLL
#define threadIdx (::moegen::emulated::place().thread)
#define blockIdx (::moegen::emulated::place().block)
#define blockDim (::moegen::emulated::place().block_dim)
#define gridDim (::moegen::emulated::place().grid_dim)
#define MOEGEN_SHARED reinterpret_cast<float*>(::moegen::emulated::place().shared)

inline float __uint_as_float(uint32_t x) { return std::bit_cast<float>(x); }
inline uint32_t __float_as_uint(float x) { return std::bit_cast<uint32_t>(x); }
inline void __syncthreads() { ::moegen::emulated::block_barrier(); }
inline void __syncwarp() { ::moegen::emulated::warp_barrier(); }

template <typename T>
T __shfl_sync(unsigned, T value, unsigned lane) {
  static_assert(sizeof(T) <= sizeof(::moegen::emulated::Given));
  ::moegen::emulated::Given given{};
  std::memcpy(&given, &value, sizeof(T));
  std::memcpy(&value, &::moegen::emulated::exchange(given)[lane], sizeof(T));
  return value;
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, unsigned step) {
  return __shfl_sync(mask, value, ::moegen::emulated::lane() ^ step);
}
inline unsigned __ballot_sync(unsigned, bool is_set) {
  const ::moegen::emulated::Given* of_lanes = ::moegen::emulated::exchange({is_set ? 1U : 0U});
  unsigned bits = 0;
  for (unsigned lane = 0; lane < 32; ++lane) bits |= of_lanes[lane][0] << lane;
  return bits;
}
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }

namespace moegen::emulated {
/// A GPU ends the program where an address is not aligned.
template <typename T>
T load_as(const void* from) {
  MOEGEN_CHECK(reinterpret_cast<uintptr_t>(from) % sizeof(T) == 0);
  T out;
  std::memcpy(&out, from, sizeof(T));
  return out;
}
template <typename T>
void store_as(void* to, const T& x) {
  MOEGEN_CHECK(reinterpret_cast<uintptr_t>(to) % sizeof(T) == 0);
  std::memcpy(to, &x, sizeof(T));
}
}  // namespace moegen::emulated

namespace moegen::gpu {
using std::isfinite;
using std::isnan;
using std::max;
using std::min;
}  // namespace moegen::gpu
