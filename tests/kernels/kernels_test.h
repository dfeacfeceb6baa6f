#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <random>
#include <string>
#include <vector>

#include "kernels/functions.h"
#include "tests/kernels/plain_tiles.h"

// Every op of every path that this processor runs, against the plain reference, over random and awkward shapes.
// Tolerances follow from the norms: a sum of n products is off by at most about eps * sqrt(n) * |a| |b| in random order,
// n * eps in the worst; what is stored as bfloat16 adds half a unit of its eight bits.
namespace moegen {

constexpr double kFloatEps = 0x1p-23;
constexpr double kBf16Eps = 0x1p-8;

// Values of one of the three weight types, with what they are as floats.
class Values {
 public:
  Values(DType dtype, size_t count, std::mt19937& rng, float scale = 1) : dtype_(dtype) {
    std::normal_distribution<float> normal(0, scale);
    for (size_t i = 0; i < count; ++i) set(normal(rng));
  }
  Values(DType dtype, const std::vector<float>& floats) : dtype_(dtype) {
    for (const float x : floats) set(x);
  }
  [[nodiscard]] const void* data() const { return dtype_ == DType::f32 ? static_cast<const void*>(floats_.data()) : halves_.data(); }
  [[nodiscard]] void* data() { return dtype_ == DType::f32 ? static_cast<void*>(floats_.data()) : halves_.data(); }
  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] float operator[](size_t i) const {
    if (dtype_ == DType::f32) return floats_[i];
    return dtype_ == DType::bf16 ? to_float(bf16{halves_[i]}) : to_float(f16{halves_[i]});
  }

 private:
  void set(float x) {
    if (dtype_ == DType::f32) floats_.push_back(x);
    if (dtype_ == DType::bf16) halves_.push_back(to_bf16(x).bits);
    if (dtype_ == DType::f16) halves_.push_back(nearby_half(x));
  }
  static uint16_t nearby_half(float x) {  // a normal half near x is enough
    const auto u = std::bit_cast<uint32_t>(x);
    const int exponent = static_cast<int>((u >> 23) & 0xff) - 112;
    if (exponent <= 0) return static_cast<uint16_t>((u >> 16) & 0x8000);
    return static_cast<uint16_t>(((u >> 16) & 0x8000) | static_cast<uint32_t>(exponent) << 10 | ((u >> 13) & 0x3ff));
  }
  DType dtype_;
  std::vector<float> floats_;
  std::vector<uint16_t> halves_;
};

class KernelsTest : public testing::TestWithParam<std::string> {
 protected:
  const Kernels& fast() const {
    if (GetParam() == emulated_bf16_kernels().name) return emulated_bf16_kernels();
    return GetParam() == plain_tiles_kernels().name ? plain_tiles_kernels() : select_kernels(GetParam());
  }
  const Kernels& plain() const { return reference_kernels(); }
  std::mt19937 rng{42};
  void* gemm_scratch() { return &scratch_; }

 private:
  struct alignas(64) Scratch {
    std::byte bytes[kGemmScratchBytes];
  } scratch_;
};

}  // namespace moegen
