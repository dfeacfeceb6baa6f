#pragma once

#include "kernels/cuda/cuda.cuh"

namespace moegen::gpu {

/// A thread has kEach neighbours of a row.
struct Expand {
  using Args = GpuExpand;
  static constexpr int kEach = 8;
  __device__ static int64_t rows(const Args& a) { return a.rows; }
  __device__ static int64_t cols(const Args& a) { return (a.cols + kEach - 1) / kEach; }

  static constexpr int bits_of(DType type) { return type == DType::f16 ? 16 : type == DType::f4 || type == DType::i4 ? 4 : 8; }
  template <DType kType>
  static constexpr int kWords = bits_of(kType) == 16 ? 2 : 1;

  /// What a code is multiplied by, and what is 0.
  struct Group {
    float scale;
    int zero;
  };
  template <DType kType>
  __device__ static Group group_of(const Args& a, int64_t row, int64_t col) {
    // Rows are whole groups, or whole but the last.
    const auto cols = static_cast<uint32_t>(a.cols), group = static_cast<uint32_t>(a.group), of_row = static_cast<uint32_t>(col) / group;
    if constexpr (kType == DType::f16) return {1, 0};
    if constexpr (kType == DType::f8_e4m3) {
      const uint32_t block = static_cast<uint32_t>(row) / static_cast<uint32_t>(a.block_rows);
      return {static_cast<const float*>(a.scales)[static_cast<int64_t>(block) * ((cols + group - 1) / group) + of_row], 0};
    }
    if constexpr (kType == DType::f4)
      return {widen(static_cast<const f8_e8m0*>(a.scales)[row * (cols / kF4Block) + static_cast<uint32_t>(col) / kF4Block]), 0};
    const int64_t at = row * (cols / group) + of_row;
    return {gpu::load(a.scales, a.scale_dtype, at), a.zeros != nullptr ? a.zeros[at] : kType == DType::i4 ? 8 : 128};
  }
  template <DType kType>
  __device__ static float value(const Group& group, uint32_t code) {
    if constexpr (kType == DType::f16) return widen(f16{static_cast<uint16_t>(code)});
    if constexpr (kType == DType::f8_e4m3) return widen(f8_e4m3{static_cast<uint8_t>(code)}) * group.scale;
    if constexpr (kType == DType::f4) return widen_f4(code) * group.scale;
    return static_cast<float>(static_cast<int>(code) - group.zero) * group.scale;
  }

  /// kEach that share a group, as they are stored: it is looked up once, and one load brings all codes.
  template <DType kType>
  struct Codes {
    uint64_t words[kWords<kType>];
    Group group;
  };
  template <DType kType>
  __device__ static Codes<kType> load(const Args& a, int64_t row, int64_t col) {
    const void* from = static_cast<const uint8_t*>(a.w) + (row * a.cols + col) * bits_of(kType) / 8;
    Codes<kType> out;
    if constexpr (bits_of(kType) == 16) {
      const Words words = load_as<Words>(from);
      memcpy(out.words, &words, sizeof(words));
    } else if constexpr (bits_of(kType) == 8) {
      out.words[0] = load_as<uint64_t>(from);
    } else {
      out.words[0] = load_as<uint32_t>(from);
    }
    out.group = group_of<kType>(a, row, col);
    return out;
  }
  template <DType kType>
  __device__ static void widen_codes(const Codes<kType>& codes, float* out) {
    constexpr int kBits = bits_of(kType), kOfWord = 64 / kBits;
    MOEGEN_UNROLL
    for (int i = 0; i < kEach; ++i)
      out[i] = value<kType>(codes.group, static_cast<uint32_t>(codes.words[i / kOfWord] >> (kBits * (i % kOfWord))) & ((1U << kBits) - 1));
  }

  template <typename Y>
  __device__ static void store_all(const Args& a, int64_t at, const float* values) {
    Y out[kEach];
    MOEGEN_UNROLL
    for (int i = 0; i < kEach; ++i) out[i] = narrow<Y>(values[i]);
    for (size_t part = 0; part < kEach * sizeof(Y) / sizeof(Words); ++part) {
      Words words;
      memcpy(&words, reinterpret_cast<const char*>(out) + part * sizeof(Words), sizeof(Words));
      store_as(static_cast<Y*>(a.y) + at + part * (sizeof(Words) / sizeof(Y)), words);
    }
  }
  template <DType kType>
  __device__ static void run_as(const Args& a, int64_t from, int64_t col, int64_t at) {
    if (a.cols % kEach == 0 && a.group % kEach == 0) {
      float out[kEach];
      widen_codes(load<kType>(a, from, col), out);
      return a.y_dtype == DType::f32 ? store_all<float>(a, at, out) : store_all<bf16>(a, at, out);
    }
    const auto* codes = static_cast<const uint8_t*>(a.w);
    for (int64_t i = 0; i < kEach && col + i < a.cols; ++i) {
      const int64_t n = from * a.cols + col + i;
      const uint32_t code = bits_of(kType) == 16  ? static_cast<const f16*>(a.w)[n].bits
                            : bits_of(kType) == 4 ? codes[n / 2] >> (4 * (n % 2)) & 15U
                                                  : codes[n];
      store(a.y, a.y_dtype, at + i, value<kType>(group_of<kType>(a, from, col + i), code));
    }
  }
  __device__ static void run(const Args& a, int64_t row, int64_t part) {
    const int64_t col = part * kEach, from = a.first + row * a.step, at = row * a.cols + col;
    switch (a.w_dtype) {
      case DType::f16:
        return run_as<DType::f16>(a, from, col, at);
      case DType::f8_e4m3:
        return run_as<DType::f8_e4m3>(a, from, col, at);
      case DType::f4:
        return run_as<DType::f4>(a, from, col, at);
      case DType::i4:
        return run_as<DType::i4>(a, from, col, at);
      case DType::u8:
        return run_as<DType::u8>(a, from, col, at);
      default:
        for (int64_t i = 0; i < kEach && col + i < a.cols; ++i) store(a.y, a.y_dtype, at + i, gpu::load(a.w, a.w_dtype, from * a.cols + col + i));
    }
  }
};

}  // namespace moegen::gpu
