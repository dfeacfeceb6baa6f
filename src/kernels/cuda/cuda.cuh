#pragma once

// What kernels are written in: CUDA, or what stands for it where another compiler reads them (emulated/). A kernel is a struct with its arguments,
// kThreads, the threads of a block, and run(), what a thread does. No product and sum are contracted into one rounding but by fmaf.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "base/dtype.h"
#include "kernels/gpu_functions.h"

#ifdef __CUDACC__
extern __shared__ __align__(16) unsigned char moegen_shared_memory[];
#define MOEGEN_SHARED reinterpret_cast<float*>(moegen_shared_memory)
#define MOEGEN_UNROLL _Pragma("unroll")
#else
#include "kernels/cuda/emulated/shim.h"
#endif

namespace moegen::gpu {

/// Whether a kernel says of itself that its threads need no barriers: the emulation then runs them without fibers.
template <typename Kernel>
constexpr bool kIndependent = requires {
  Kernel::kNoBarriers;
};

constexpr unsigned kAllLanes = 0xffffffffU;

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(bf16 x) { return __uint_as_float(static_cast<uint32_t>(x.bits) << 16); }
__device__ inline float widen(int8_t x) { return static_cast<float>(x); }
__device__ inline float widen(f16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000U) << 16;
  const uint32_t exponent = (x.bits >> 10) & 0x1fU;
  const uint32_t mantissa = x.bits & 0x3ffU;
  if (exponent == 0) return __uint_as_float(sign | __float_as_uint(static_cast<float>(mantissa) * 0x1p-24F));
  return __uint_as_float(sign | ((exponent == 31 ? 255U : exponent + 112U) << 23) | (mantissa << 13));
}
__device__ inline float widen(f8_e4m3 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x80U) << 24;
  const uint32_t magnitude = x.bits & 0x7fU;
  if (magnitude == 0x7fU) return __uint_as_float(sign | 0x7fc00000U);
  if (magnitude < 8) return __uint_as_float(sign | __float_as_uint(static_cast<float>(magnitude) * 0x1p-9F));
  return __uint_as_float(sign | ((magnitude << 20) + (120U << 23)));
}
__device__ inline float widen(f8_e8m0 x) {
  const uint32_t bits = x.bits;
  return __uint_as_float(bits == 0 ? 0x00400000U : bits == 255 ? 0x7fc00000U : bits << 23);
}
/// Of a code of e2m1.
__device__ inline float widen_f4(uint32_t code) {
  const uint32_t m = code & 7U;
  const float magnitude = m < 2 ? 0.5F * static_cast<float>(m) : __uint_as_float(((m >> 1) + 126U) << 23 | (m & 1U) << 22);
  return (code & 8U) != 0 ? -magnitude : magnitude;
}

template <typename T>
__device__ T narrow(float x);
template <>
__device__ inline float narrow<float>(float x) {
  return x;
}
template <>
__device__ inline bf16 narrow<bf16>(float x) {  // to nearest, ties to even
  const uint32_t u = __float_as_uint(x);
  if ((u & 0x7fffffffU) > 0x7f800000U) return {static_cast<uint16_t>((u >> 16) | 0x40U)};
  return {static_cast<uint16_t>((u + 0x7fffU + ((u >> 16) & 1U)) >> 16)};
}

/// Two bf16 in a word, as they lie in memory.
__device__ inline uint32_t pack_bf16(float low, float high) {
#ifdef __CUDACC__  // one instruction, with the bits of narrow() but for those of a NaN
  uint32_t both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
#else
  return static_cast<uint32_t>(narrow<bf16>(low).bits) | static_cast<uint32_t>(narrow<bf16>(high).bits) << 16;
#endif
}

/// What lies at an address that is a multiple of T's size, up to 16, by one instruction. Of a memcpy nvcc makes single bytes, whatever it is told of
/// the alignment.
template <typename T>
__device__ T load_as(const void* from) {
#ifdef __CUDACC__
  return *static_cast<const T*>(from);
#else
  return emulated::load_as<T>(from);
#endif
}
template <typename T>
__device__ void store_as(void* to, const T& x) {
#ifdef __CUDACC__
  *static_cast<T*>(to) = x;
#else
  emulated::store_as(to, x);
#endif
}
/// 16 bytes, for load_as and store_as.
struct alignas(16) Words {
  uint32_t w[4];
};

/// Element i of memory whose type is known at run time: float, bf16 or f16.
__device__ inline float load(const void* p, DType dtype, int64_t i) {
  if (dtype == DType::f32) return static_cast<const float*>(p)[i];
  if (dtype == DType::bf16) return widen(static_cast<const bf16*>(p)[i]);
  return widen(static_cast<const f16*>(p)[i]);
}
/// Likewise, float or bf16.
__device__ inline void store(void* p, DType dtype, int64_t i, float x) {
  if (dtype == DType::f32) {
    static_cast<float*>(p)[i] = x;
  } else {
    static_cast<bf16*>(p)[i] = narrow<bf16>(x);
  }
}

__device__ inline float warp_sum(float x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}
__device__ inline float warp_max(float x) {
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, step));
  return x;
}

/// The sum of this lane's and all lower lanes'.
template <typename T>
__device__ T warp_scan(T x) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int step = 1; step < 32; step *= 2) {
    const T other = __shfl_sync(kAllLanes, x, max(lane - step, 0));
    x += lane >= step ? other : T{0};
  }
  return x;
}

/// The largest value of all lanes and its index, the lowest where equal; index -1 is no value.
struct Best {
  float value;
  int index;
};
__device__ inline Best better(Best a, Best b) {
  if (b.index < 0) return a;
  if (a.index < 0 || b.value > a.value || (b.value == a.value && b.index < a.index)) return b;
  return a;
}
__device__ inline Best warp_best(Best x) {
  for (int step = 16; step > 0; step /= 2) {
    const Best other{__shfl_xor_sync(kAllLanes, x.value, step), __shfl_xor_sync(kAllLanes, x.index, step)};
    x = better(x, other);
  }
  return x;
}

/// Sum over a block of kThreads; `room` has a float for each warp.
template <int kThreads>
__device__ float block_sum(float x, float* room) {
  x = warp_sum(x);
  if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
  for (int w = 0; w < kThreads / 32; ++w) sum += room[w];
  return sum;
}

}  // namespace moegen::gpu
