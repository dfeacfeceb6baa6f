#pragma once

#include "kernels/cuda/cuda.cuh"

namespace moegen::gpu {

/// A thread has kEach neighbours of a row.
struct Expand {
  using Args = GpuExpand;
  static constexpr int kEach = 8;
  __device__ static int64_t rows(const Args& a) { return a.rows; }
  __device__ static int64_t cols(const Args& a) { return (a.cols + kEach - 1) / kEach; }
  __device__ static bool is_half(const Args& a) { return a.w_dtype == DType::f4 || a.w_dtype == DType::i4; }
  __device__ static bool is_plain(const Args& a) { return a.w_dtype == DType::f32 || a.w_dtype == DType::bf16 || a.w_dtype == DType::f16; }

  /// What a code is multiplied by, and what is 0.
  struct Group {
    float scale;
    int zero;
  };
  __device__ static Group group_of(const Args& a, int64_t row, int64_t col) {
    const int64_t at = row * a.cols + col;
    switch (a.w_dtype) {
      case DType::f8_e4m3: {
        const auto cols = static_cast<uint32_t>(a.cols), group = static_cast<uint32_t>(a.group);
        const uint32_t block = static_cast<uint32_t>(row) / static_cast<uint32_t>(a.block_rows);
        return {static_cast<const float*>(a.scales)[static_cast<int64_t>(block) * ((cols + group - 1) / group) + static_cast<uint32_t>(col) / group],
                0};
      }
      case DType::f4:
        return {widen(static_cast<const f8_e8m0*>(a.scales)[at / kF4Block]), 0};
      default: {
        const int64_t group = at / a.group;
        return {gpu::load(a.scales, a.scale_dtype, group), a.zeros != nullptr ? a.zeros[group] : is_half(a) ? 8 : 128};
      }
    }
  }
  __device__ static float value(const Args& a, const Group& group, uint32_t code) {
    if (a.w_dtype == DType::f8_e4m3) return widen(f8_e4m3{static_cast<uint8_t>(code)}) * group.scale;
    if (a.w_dtype == DType::f4) return widen_f4(code) * group.scale;
    return static_cast<float>(static_cast<int>(code) - group.zero) * group.scale;
  }
  __device__ static float value(const Args& a, int64_t row, int64_t col) {
    const int64_t at = row * a.cols + col;
    if (is_plain(a)) return gpu::load(a.w, a.w_dtype, at);
    const auto* codes = static_cast<const uint8_t*>(a.w);
    return value(a, group_of(a, row, col), is_half(a) ? codes[at / 2] >> (4 * (at % 2)) & 15U : codes[at]);
  }
  /// kEach that share a group, as they are stored: it is looked up once, and one load brings all codes.
  struct Codes {
    uint64_t bits[2];  // the second of f16 alone
    Group group;
  };
  __device__ static Codes load(const Args& a, int64_t row, int64_t col) {
    const int64_t at = row * a.cols + col;
    Codes out{};
    if (a.w_dtype == DType::f16) {
      memcpy(out.bits, __builtin_assume_aligned(static_cast<const f16*>(a.w) + at, 2 * kEach), 2 * kEach);
      return out;
    }
    const uint8_t* codes = static_cast<const uint8_t*>(a.w);
    if (is_half(a)) {
      memcpy(out.bits, __builtin_assume_aligned(codes + at / 2, kEach / 2), kEach / 2);
    } else {
      memcpy(out.bits, __builtin_assume_aligned(codes + at, kEach), kEach);
    }
    out.group = group_of(a, row, col);
    return out;
  }
  __device__ static void widen_codes(const Args& a, const Codes& codes, float* out) {
    if (a.w_dtype == DType::f16) {
      MOEGEN_UNROLL
      for (int i = 0; i < kEach; ++i) out[i] = widen(f16{static_cast<uint16_t>(codes.bits[i / 4] >> (16 * (i % 4)))});
      return;
    }
    const int bits = is_half(a) ? 4 : 8;
    MOEGEN_UNROLL
    for (int i = 0; i < kEach; ++i) out[i] = value(a, codes.group, static_cast<uint32_t>(codes.bits[0] >> (bits * i)) & ((1U << bits) - 1));
  }
  template <typename Y>
  __device__ static void store_all(const Args& a, int64_t at, const float* values) {
    Y out[kEach];
    MOEGEN_UNROLL
    for (int i = 0; i < kEach; ++i) out[i] = narrow<Y>(values[i]);
    memcpy(__builtin_assume_aligned(static_cast<void*>(static_cast<Y*>(a.y) + at), 16), out, sizeof(out));
  }
  __device__ static void run(const Args& a, int64_t row, int64_t part) {
    const int64_t col = part * kEach, from = a.first + row * a.step, at = row * a.cols + col;
    if (!is_plain(a) && a.cols % kEach == 0 && a.group % kEach == 0) {
      float out[kEach];
      widen_codes(a, load(a, from, col), out);
      if (a.y_dtype == DType::f32) return store_all<float>(a, at, out);
      return store_all<bf16>(a, at, out);
    }
    for (int64_t i = 0; i < kEach && col + i < a.cols; ++i) store(a.y, a.y_dtype, at + i, value(a, from, col + i));
  }
};

}  // namespace moegen::gpu
