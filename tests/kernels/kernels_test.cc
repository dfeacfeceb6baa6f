// Every op of every path that this processor runs, against the plain reference, over random and awkward shapes.
// Tolerances follow from the norms: a sum of n products is off by at most about eps * sqrt(n) * |a| |b| in random order,
// n * eps in the worst; what is stored as bfloat16 adds half a unit of its eight bits.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "base/checked.h"
#include "kernels/functions.h"
#include "tests/kernels/plain_tiles.h"

namespace moegen {
namespace {

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

std::vector<std::string> vector_paths() {
  std::vector<std::string> names;
  for (const Kernels* kernels : usable_kernels()) {
    if (kernels != &reference_kernels()) names.emplace_back(kernels->name);
  }
  if (!names.empty()) names.emplace_back(plain_tiles_kernels().name);
  if (std::find(names.begin(), names.end(), "avx512") != names.end()) names.emplace_back(emulated_bf16_kernels().name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Paths, KernelsTest, testing::ValuesIn(vector_paths()), [](const auto& path) { return path.param; });

struct GemmCase {
  DType x, w, y;
  int64_t m, n, k;
  bool gather, bias, add;
};

TEST_P(KernelsTest, MultiplyOnlyCountsByRounds) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const double once = fast().multiply_only(dtype, 1);
    EXPECT_GT(once, 0);
    EXPECT_EQ(fast().multiply_only(dtype, 100), 100 * once);
  }
}

TEST_P(KernelsTest, GemmIsTheReference) {
  const std::vector<GemmCase> cases{
      {DType::f32, DType::f32, DType::f32, 1, 1, 1, false, false, false},
      {DType::bf16, DType::bf16, DType::f32, 5, 7, 33, false, true, false},
      {DType::bf16, DType::bf16, DType::bf16, 4, 4, 64, true, false, false},
      {DType::f32, DType::bf16, DType::f32, 9, 13, 17, true, true, true},
      {DType::bf16, DType::f16, DType::f32, 3, 70, 100, false, false, true},
      {DType::bf16, DType::f32, DType::bf16, 66, 3, 15, false, true, false},
      {DType::f32, DType::f16, DType::f32, 2, 5, 2047, true, true, false},
      {DType::bf16, DType::bf16, DType::f32, 17, 65, 768, true, false, false},
      {DType::bf16, DType::bf16, DType::f32, 129, 200, 2051, true, false, true},
      {DType::f32, DType::f32, DType::f32, 50, 195, 1030, false, true, false},
      {DType::bf16, DType::f32, DType::f32, 16, 33, 5001, false, false, false},
      {DType::bf16, DType::f16, DType::bf16, 40, 193, 1025, false, true, true},
  };
  for (const GemmCase& c : cases) {
    const Values x(c.x, static_cast<size_t>((c.m + 3) * (c.k + 5)), rng);
    const Values w(c.w, static_cast<size_t>(c.n * c.k), rng);
    const Values bias(c.w, static_cast<size_t>(c.n), rng);
    std::vector<int32_t> rows;
    for (int64_t i = 0; i < c.m; ++i) rows.push_back(static_cast<int32_t>((i * 7 + 2) % (c.m + 3)));
    Values want(c.y, static_cast<size_t>(c.m * (c.n + 2)), rng);
    Values have = want;
    Gemm op{.x = x.data(),
            .x_dtype = c.x,
            .x_stride = c.k + 5,
            .rows = c.gather ? rows.data() : nullptr,
            .w = w.data(),
            .w_dtype = c.w,
            .bias = c.bias ? bias.data() : nullptr,
            .bias_dtype = c.w,
            .y = want.data(),
            .y_dtype = c.y,
            .y_stride = c.n + 2,
            .add = c.add,
            .k = c.k,
            .scratch = gemm_scratch()};
    plain().gemm(op, {0, c.m}, {0, c.n});
    op.y = have.data();
    fast().gemm(op, {0, c.m}, {0, c.n});
    const double tolerance =
        4 * kFloatEps * static_cast<double>(c.k + 4) + (c.y == DType::bf16 ? kBf16Eps * 4 * std::sqrt(static_cast<double>(c.k)) : 0);
    for (size_t i = 0; i < static_cast<size_t>(c.m * (c.n + 2)); ++i)
      ASSERT_NEAR(have[i], want[i], tolerance) << "m n k " << c.m << " " << c.n << " " << c.k << " at " << i;
  }
}

// The contract that makes tokens independent of the batch: an output's bits do not depend on the tile it falls into.
TEST_P(KernelsTest, GemmBitsDoNotDependOnTheRange) {
  struct Case {
    int64_t m, n, k;
    DType x, w;
  };
  for (const auto& [m, n, k, x_type, w_type] :
       {Case{23, 37, 203, DType::bf16, DType::bf16}, Case{81, 20, 4500, DType::bf16, DType::bf16}, Case{140, 9, 2100, DType::f32, DType::bf16},
        Case{290, 40, 600, DType::bf16, DType::bf16}, Case{70, 230, 1500, DType::bf16, DType::bf16}, Case{33, 40, 1027, DType::f32, DType::f32},
        Case{33, 40, 1027, DType::bf16, DType::f32}, Case{50, 70, 5000, DType::bf16, DType::f16}, Case{20, 100, 900, DType::f32, DType::f16}}) {
    const Values x(x_type, static_cast<size_t>(m * k), rng);
    const Values w(w_type, static_cast<size_t>(n * k), rng);
    std::vector<float> whole(static_cast<size_t>(m * n));
    Gemm op{.x = x.data(),
            .x_dtype = x_type,
            .x_stride = k,
            .w = w.data(),
            .w_dtype = w_type,
            .y = whole.data(),
            .y_stride = n,
            .k = k,
            .scratch = gemm_scratch()};
    fast().gemm(op, {0, m}, {0, n});
    for (int trial = 0; trial < 20; ++trial) {
      std::vector<float> pieces(whole.size());
      op.y = pieces.data();
      const int64_t row = 1 + static_cast<int64_t>(rng() % static_cast<uint64_t>(m - 1)),
                    col = 1 + static_cast<int64_t>(rng() % static_cast<uint64_t>(n - 1));
      for (const Range r : {Range{0, row}, Range{row, m}}) {
        for (const Range c : {Range{0, col}, Range{col, n}}) fast().gemm(op, r, c);
      }
      ASSERT_EQ(std::memcmp(pieces.data(), whole.data(), whole.size() * sizeof(float)), 0) << k << " split at " << row << ", " << col;
    }
  }
}

// e4m3 codes with a scale for each block, and their values.
struct F8Weights {
  F8Weights(int64_t rows, int64_t cols, int64_t block_rows, int64_t group, std::mt19937& rng)
      : codes(static_cast<size_t>(rows * cols)), scales(static_cast<size_t>(ceil_div(rows, block_rows) * ceil_div(cols, group))) {
    std::normal_distribution<float> normal;
    for (float& s : scales) s = std::exp2(-8 + 3 * normal(rng));   // far apart: a value with its neighbour's scale is seen
    if (rng() % 3 == 0) scales[rng() % scales.size()] = 0x1p110F;  // what is not plain
    for (int64_t i = 0; i < rows * cols; ++i) {
      auto& code = codes[static_cast<size_t>(i)] = {static_cast<uint8_t>(rng())};
      if ((code.bits & 0x7f) == 0x7f) code.bits = 0;
      values.push_back(to_float(code) * scales[static_cast<size_t>(i / cols / block_rows * ceil_div(cols, group) + i % cols / group)]);
    }
  }
  std::vector<f8_e4m3> codes;
  std::vector<float> scales;
  std::vector<float> values;
};

// To expand on the way is to multiply with the expanded weights, to the bit and on every path: however many rows there are, whatever
// part of the columns, and from whichever row of the weights on.
TEST_P(KernelsTest, GemmOfF8IsThatOfItsExpansion) {
  const auto any = [&](int64_t most) { return 1 + static_cast<int64_t>(rng() % static_cast<uint64_t>(most)); };
  for (int trial = 0; trial < 60; ++trial) {
    const DType x_type = trial % 2 == 0 ? DType::bf16 : DType::f32;
    const int64_t m = any(trial % 3 == 0 ? 8 : trial % 3 == 1 ? 30 : 150), n = any(300), k = any(trial % 10 == 0 ? 9000 : 700), first = any(140) - 1;
    const int64_t step = any(2);
    const bool rows_apart = trial % 4 == 3;
    const F8Weights w(first + n * step, k, rows_apart ? 1 : kF8Block, rows_apart ? k : kF8Block, rng);
    const Values expanded(x_type, w.values);
    const Values x(x_type, static_cast<size_t>(m * k), rng);
    std::vector<float> want(static_cast<size_t>(m * n)), have(want.size()), plain_have(want.size());
    Gemm op{.x = x.data(),
            .x_dtype = x_type,
            .x_stride = k,
            .w = expanded.data(),
            .w_dtype = x_type,
            .w_first = first,
            .w_step = step,
            .y = want.data(),
            .y_stride = n,
            .k = k,
            .scratch = gemm_scratch()};
    fast().gemm(op, {0, m}, {0, n});
    op.w = w.codes.data();
    op.w_dtype = DType::f8_e4m3;
    op.w_scales = w.scales.data();
    op.w_group = rows_apart ? k : kF8Block;
    op.w_block_rows = rows_apart ? 1 : kF8Block;
    op.y = have.data();
    const int64_t row = any(m), col = any(n);
    for (const Range r : {Range{0, row}, Range{row, m}}) {
      for (const Range c : {Range{0, col}, Range{col, n}}) fast().gemm(op, r, c);
    }
    ASSERT_EQ(std::memcmp(have.data(), want.data(), want.size() * sizeof(float)), 0) << "m n k first " << m << " " << n << " " << k << " " << first;
    if (trial % 5 != 1) continue;
    op.y = plain_have.data();
    plain().gemm(op, {0, m}, {0, n});
    double largest = 0;
    for (const float value : w.values) largest = std::max(largest, std::abs(static_cast<double>(value)));
    for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(have[i], plain_have[i], 4 * kFloatEps * static_cast<double>(k + 4) * largest);
  }
}

// Pairs of e2m1 codes with a scale for each block, and their values.
struct F4Weights {
  F4Weights(int64_t rows, int64_t cols, std::mt19937& rng)
      : codes(static_cast<size_t>(rows * cols / 2)), scales(static_cast<size_t>(rows * cols / kF4Block)) {
    for (auto& s : scales) s.bits = static_cast<uint8_t>(118 + rng() % 12);
    for (auto& pair : codes) pair.bits = static_cast<uint8_t>(rng());
    for (size_t i = 0; i < 2 * codes.size(); ++i)
      values.push_back(f4_to_float(codes[i / 2].bits >> (i % 2 * 4) & 15U) * to_float(scales[i / static_cast<size_t>(kF4Block)]));
  }
  std::vector<f4_pair> codes;
  std::vector<f8_e8m0> scales;
  std::vector<float> values;
};

TEST_P(KernelsTest, GemmOfF4IsThatOfItsExpansion) {
  const auto any = [&](int64_t most) { return 1 + static_cast<int64_t>(rng() % static_cast<uint64_t>(most)); };
  for (int trial = 0; trial < 60; ++trial) {
    const DType x_type = trial % 2 == 0 ? DType::bf16 : DType::f32;
    const int64_t m = any(trial % 3 == 0 ? 8 : trial % 3 == 1 ? 30 : 150), n = any(300), k = any(trial % 10 == 0 ? 280 : 22) * kF4Block;
    const int64_t first = any(40) - 1, step = any(2);
    const F4Weights w(first + n * step, k, rng);
    const Values expanded(x_type, w.values);
    const Values x(x_type, static_cast<size_t>(m * k), rng);
    std::vector<float> want(static_cast<size_t>(m * n)), have(want.size()), plain_have(want.size());
    Gemm op{.x = x.data(),
            .x_dtype = x_type,
            .x_stride = k,
            .w = expanded.data(),
            .w_dtype = x_type,
            .w_first = first,
            .w_step = step,
            .y = want.data(),
            .y_stride = n,
            .k = k,
            .scratch = gemm_scratch()};
    fast().gemm(op, {0, m}, {0, n});
    op.w = w.codes.data();
    op.w_dtype = DType::f4;
    op.w_scales = w.scales.data();
    op.y = have.data();
    const int64_t row = any(m), col = any(n);
    for (const Range r : {Range{0, row}, Range{row, m}}) {
      for (const Range c : {Range{0, col}, Range{col, n}}) fast().gemm(op, r, c);
    }
    ASSERT_EQ(std::memcmp(have.data(), want.data(), want.size() * sizeof(float)), 0) << "m n k first " << m << " " << n << " " << k << " " << first;
    if (trial % 5 != 1) continue;
    op.y = plain_have.data();
    plain().gemm(op, {0, m}, {0, n});
    double largest = 0;
    for (const float value : w.values) largest = std::max(largest, std::abs(static_cast<double>(value)));
    for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(have[i], plain_have[i], 4 * kFloatEps * static_cast<double>(k + 4) * largest);
  }
}

// Codes of `bits`, their scales in any type and zero points, or none, and their values. Some groups have scales that are not plain, or zero.
struct CodeWeights {
  CodeWeights(int64_t rows, int64_t cols, int bits, int64_t group, bool with_zeros, DType scale_dtype, std::mt19937& rng)
      : codes(static_cast<size_t>(rows * cols * bits / 8)), scales(scale_dtype, random_scales(static_cast<size_t>(rows * cols / group), rng)) {
    for (uint8_t& c : codes) c = static_cast<uint8_t>(rng());
    for (int64_t i = 0; with_zeros && i < rows * cols / group; ++i) zeros.push_back(static_cast<uint8_t>(rng() % (1U << bits)));
    for (size_t i = 0; i < static_cast<size_t>(rows * cols); ++i) {
      const auto at = static_cast<size_t>(group);
      const int code = bits == 8 ? codes[i] : codes[i / 2] >> (i % 2 * 4) & 15;
      values.push_back(static_cast<float>(code - (with_zeros ? zeros[i / at] : 1 << (bits - 1))) * scales[i / at]);
    }
  }
  static std::vector<float> random_scales(size_t count, std::mt19937& rng) {
    std::vector<float> out(count);
    for (float& s : out) s = static_cast<float>(rng() % 1000) * 1e-4F - 0.03F;
    if (rng() % 3 == 0) out[rng() % count] = 0x1p-110F;
    if (rng() % 3 == 0) out[rng() % count] = 0;
    return out;
  }
  std::vector<uint8_t> codes, zeros;
  Values scales;
  std::vector<float> values;
};

TEST_P(KernelsTest, GemmOfCodesIsThatOfTheirExpansion) {
  const auto any = [&](int64_t most) { return 1 + static_cast<int64_t>(rng() % static_cast<uint64_t>(most)); };
  for (int trial = 0; trial < 120; ++trial) {
    const DType x_type = trial % 2 == 0 ? DType::bf16 : DType::f32;
    const int bits = trial / 2 % 2 == 0 ? 4 : 8;
    const int64_t units = trial % 5 == 4 ? any(12) : 1 << trial % 3;
    const int64_t group = kGroupUnit * units;
    const int64_t m = any(trial % 3 == 0 ? 8 : trial % 3 == 1 ? 30 : 150), n = any(300), k = any(trial % 10 == 0 ? 200 / units : 30 / units) * group;
    const int64_t first = any(40) - 1, step = any(2);
    const DType scale_dtype = std::array{DType::bf16, DType::f16, DType::f32}[rng() % 3];
    const CodeWeights w(first + n * step, k, bits, group, rng() % 2 == 0, scale_dtype, rng);
    const Values expanded(x_type, w.values);
    const Values x(x_type, static_cast<size_t>(m * k), rng);
    std::vector<float> want(static_cast<size_t>(m * n)), have(want.size()), plain_have(want.size());
    Gemm op{.x = x.data(),
            .x_dtype = x_type,
            .x_stride = k,
            .w = expanded.data(),
            .w_dtype = x_type,
            .w_first = first,
            .w_step = step,
            .y = want.data(),
            .y_stride = n,
            .k = k,
            .scratch = gemm_scratch()};
    fast().gemm(op, {0, m}, {0, n});
    op.w = w.codes.data();
    op.w_dtype = bits == 4 ? DType::i4 : DType::u8;
    op.w_scales = w.scales.data();
    op.w_scale_dtype = scale_dtype;
    op.w_zeros = w.zeros.empty() ? nullptr : w.zeros.data();
    op.w_group = group;
    op.y = have.data();
    const int64_t row = any(m), col = any(n);
    for (const Range r : {Range{0, row}, Range{row, m}}) {
      for (const Range c : {Range{0, col}, Range{col, n}}) fast().gemm(op, r, c);
    }
    ASSERT_EQ(std::memcmp(have.data(), want.data(), want.size() * sizeof(float)), 0)
        << "m n k first group bits " << m << " " << n << " " << k << " " << first << " " << group << " " << bits;
    if (trial % 5 != 1) continue;
    op.y = plain_have.data();
    plain().gemm(op, {0, m}, {0, n});
    double largest = 0;
    for (const float value : w.values) largest = std::max(largest, std::abs(static_cast<double>(value)));
    for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(have[i], plain_have[i], 4 * kFloatEps * static_cast<double>(k + 4) * largest);
  }
}

// Every code times every significand of a bfloat16 and of a half: where a product lies between two bfloat16, or just in the middle, it is rounded as
// one that was expanded before. One row takes the codes as they are turned, 60 in place.
TEST_P(KernelsTest, CodesAreRoundedAsExpandedWeightsAre) {
  for (const DType scale_dtype : {DType::bf16, DType::f16}) {
    std::vector<float> scales;
    const int steps = scale_dtype == DType::bf16 ? 128 : 1024;
    for (int i = 0; i < steps; ++i) scales.push_back((i % 3 == 0 ? -0.25F : 0.25F) * (1 + static_cast<float>(i) / static_cast<float>(steps)));
    const Values stored(scale_dtype, scales);
    constexpr int64_t k = 256;
    const auto n = static_cast<int64_t>(scales.size());
    std::vector<uint8_t> codes(static_cast<size_t>(n * k)), zeros(scales.size());
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i);
    for (size_t i = 0; i < zeros.size(); ++i) zeros[i] = static_cast<uint8_t>(i * 7);
    for (const int64_t m : {1, 60}) {
      std::vector<float> ones(static_cast<size_t>(m * k));
      std::vector<float> y(static_cast<size_t>(m * n));
      for (int64_t at = 0; at < k; ++at) {
        for (int64_t i = 0; i < m; ++i) {
          if (at > 0) ones[static_cast<size_t>(i * k + at - 1)] = 0;
          ones[static_cast<size_t>(i * k + at)] = 1;
        }
        const Values x(DType::bf16, ones);
        fast().gemm({.x = x.data(),
                     .x_dtype = DType::bf16,
                     .x_stride = k,
                     .w = codes.data(),
                     .w_dtype = DType::u8,
                     .w_scales = stored.data(),
                     .w_scale_dtype = scale_dtype,
                     .w_zeros = zeros.data(),
                     .w_group = k,
                     .y = y.data(),
                     .y_stride = n,
                     .k = k,
                     .scratch = gemm_scratch()},
                    {0, m}, {0, n});
        for (size_t i = 0; i < y.size(); ++i) {
          const size_t col = i % scales.size();
          const float value = static_cast<float>(at - zeros[col]) * stored[col];
          ASSERT_EQ(y[i], to_float(to_bf16(value))) << at << " - " << int{zeros[col]} << " * " << stored[col];
        }
      }
    }
  }
}

// With every scale: those of the ends included, whose values leave bf16's normal numbers.
TEST_P(KernelsTest, EveryF4CodeAndScaleIsItsValue) {
  constexpr int64_t kCols = 256 * 16;  // a scale, a code
  std::vector<f4_pair> codes(static_cast<size_t>(kCols * kF4Block / 2));
  std::vector<f8_e8m0> scales(static_cast<size_t>(kCols));
  for (size_t n = 0; n < scales.size(); ++n) {
    scales[n].bits = static_cast<uint8_t>(n / 16);
    codes[n * 16 + n % 16].bits = static_cast<uint8_t>(n % 2 == 0 ? n % 16 : n % 16 << 4);
  }
  for (const DType x_type : {DType::f32, DType::bf16}) {
    for (const int64_t m : {1, 20, 60}) {
      const Values x(x_type, std::vector<float>(static_cast<size_t>(m * kF4Block), 1));
      std::vector<float> y(static_cast<size_t>(m * kCols));
      fast().gemm({.x = x.data(),
                   .x_dtype = x_type,
                   .x_stride = kF4Block,
                   .w = codes.data(),
                   .w_dtype = DType::f4,
                   .w_scales = scales.data(),
                   .y = y.data(),
                   .y_stride = kCols,
                   .k = kF4Block,
                   .scratch = gemm_scratch()},
                  {0, m}, {0, kCols});
      for (size_t i = 0; i < y.size(); ++i) {
        const auto n = static_cast<uint32_t>(i % kCols);
        const float value = f4_to_float(n % 16) * to_float(f8_e8m0{static_cast<uint8_t>(n / 16)});
        if (n / 16 == 255 || std::isinf(value)) {
          ASSERT_FALSE(std::isfinite(y[i])) << n;
        } else if (x_type == DType::f32 || std::abs(value) >= 0x1p-126F) {
          ASSERT_EQ(y[i], value) << n;
        } else {
          ASSERT_NEAR(y[i], value, 0x1p-126F) << n;  // products of bf16 may take subnormals for zero
        }
      }
    }
  }
}

TEST_P(KernelsTest, EveryF8CodeIsItsValue) {
  constexpr int64_t kCodes = 256, kRoom = 16;
  std::vector<f8_e4m3> w;
  for (int64_t n = 0; n < kCodes; ++n) {
    for (int64_t k = 0; k < kRoom; ++k) w.push_back({static_cast<uint8_t>(k == 3 ? n : 0)});
  }
  const float scales[] = {0.5F, -3};
  for (const int64_t m : {1, 20, 60}) {
    const Values x(DType::bf16, std::vector<float>(static_cast<size_t>(m * kRoom), 1));
    std::vector<float> y(static_cast<size_t>(m * kCodes));
    fast().gemm({.x = x.data(),
                 .x_dtype = DType::bf16,
                 .x_stride = kRoom,
                 .w = w.data(),
                 .w_dtype = DType::f8_e4m3,
                 .w_scales = scales,
                 .w_group = kF8Block,
                 .w_block_rows = kF8Block,
                 .y = y.data(),
                 .y_stride = kCodes,
                 .k = kRoom,
                 .scratch = gemm_scratch()},
                {0, m}, {0, kCodes});
    for (size_t i = 0; i < y.size(); ++i) {
      const auto code = static_cast<uint8_t>(i % kCodes);
      if ((code & 0x7f) == 0x7f) {
        ASSERT_TRUE(std::isnan(y[i]));
      } else {
        ASSERT_EQ(y[i], to_float(f8_e4m3{code}) * (code < 128 ? 0.5F : -3.0F)) << int{code};
      }
    }
  }
}

TEST_P(KernelsTest, RmsNormIsTheReference) {
  for (const int64_t width : {1, 8, 15, 16, 17, 80, 1024, 2049}) {
    for (const DType y_type : {DType::f32, DType::bf16}) {
      const Values x(DType::f32, static_cast<size_t>(3 * width), rng, 3);
      const Values weight(DType::bf16, static_cast<size_t>(width), rng);
      Values want(y_type, static_cast<size_t>(3 * width), rng);
      Values have = want;
      for (const auto& [weights, offset] : {std::pair{weight.data(), 0.0F}, {weight.data(), 1.0F}, {static_cast<const void*>(nullptr), 0.0F}}) {
        RmsNorm op{x.data(), DType::f32, width, weights, DType::bf16, want.data(), y_type, width, width, 1e-6F, offset};
        plain().rms_norm(op, {0, 3});
        op.y = have.data();
        fast().rms_norm(op, {0, 3});
        for (size_t i = 0; i < static_cast<size_t>(3 * width); ++i) {
          ASSERT_NEAR(have[i], want[i], std::abs(want[i]) * (y_type == DType::bf16 ? kBf16Eps : 64 * kFloatEps)) << width << " " << offset;
        }
      }
    }
  }
}

// A sequence in a layer of linear attention, of which every token is the same whichever kernels compute it.
class DeltaSequence {
 public:
  DeltaSequence(int heads, int key_dim, int value_dim, int tokens, std::mt19937& rng)
      : heads_(heads), key_dim_(key_dim), value_dim_(value_dim), keys_(normal(tokens * key_dim, 1 / std::sqrt(static_cast<float>(key_dim)), rng)) {
    queries_ = normal(tokens * key_dim, 1, rng);
    values_ = normal(tokens * heads * value_dim, 1, rng);
    for (int i = 0; i < tokens * heads; ++i) {
      decay_.push_back(i % 11 == 7 ? 0.0F : i % 5 == 2 ? 1.0F : static_cast<float>(rng() % 1000) / 1000);
      beta_.push_back(static_cast<float>(rng() % 1000) / 1000);
    }
    state = normal(heads * key_dim * value_dim, 1, rng);
    out.resize(values_.size());
    // What no token of the chunk has written yet is not a number.
    chunk_keys_.assign(static_cast<size_t>(kDeltaChunk * key_dim), std::nanf(""));
    changes_.assign(static_cast<size_t>(kDeltaChunk * heads * value_dim), std::nanf(""));
    decays_.assign(static_cast<size_t>(heads * (kDeltaChunk + 1)), std::nanf(""));
  }

  // Tokens [begin, end), up to `most` of a chunk in a call.
  void run(const Kernels& kernels, int begin, int end, int most) {
    while (begin < end) {
      const int first = begin % kDeltaChunk;
      const int count = std::min({most, end - begin, kDeltaChunk - first});
      std::copy_n(keys_.begin() + begin * key_dim_, count * key_dim_, chunk_keys_.begin() + first * key_dim_);
      const int at = begin * heads_;
      kernels.delta_tokens({first, count, heads_, key_dim_, value_dim_, state.data(), chunk_keys_.data(), changes_.data(), decays_.data(),
                            queries_.data() + begin * key_dim_, values_.data() + at * value_dim_, decay_.data() + at, beta_.data() + at,
                            out.data() + at * value_dim_});
      begin += count;
    }
  }

  // As the rule is written, in double.
  [[nodiscard]] std::vector<double> plainly(std::vector<double> s, int tokens) const {
    std::vector<double> all;
    for (int t = 0; t < tokens; ++t) {
      for (int h = 0; h < heads_; ++h) {
        for (int j = 0; j < value_dim_; ++j) {
          double known = 0, sum = 0;
          const auto at = [&](int i) -> double& { return s[static_cast<size_t>((h * key_dim_ + i) * value_dim_ + j)]; };
          const auto of = [&](const std::vector<float>& x, int i) { return static_cast<double>(x[static_cast<size_t>(i)]); };
          for (int i = 0; i < key_dim_; ++i) known += of(keys_, t * key_dim_ + i) * (at(i) *= of(decay_, t * heads_ + h));
          const double change = of(beta_, t * heads_ + h) * (of(values_, (t * heads_ + h) * value_dim_ + j) - known);
          for (int i = 0; i < key_dim_; ++i) sum += of(queries_, t * key_dim_ + i) * (at(i) += of(keys_, t * key_dim_ + i) * change);
          all.push_back(sum);
        }
      }
    }
    return all;
  }

  std::vector<float> state, out;

 private:
  static std::vector<float> normal(int count, float scale, std::mt19937& rng) {
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> x(static_cast<size_t>(count));
    for (float& v : x) v = normal(rng);
    return x;
  }

  int heads_, key_dim_, value_dim_;
  std::vector<float> keys_, queries_, values_, decay_, beta_, chunk_keys_, changes_, decays_;
};

// The chunked form is the rule token by token, up to rounding; and its bits are the same however the tokens of a chunk are shared out to calls.
TEST_P(KernelsTest, DeltaTokensAreTheRuleWhateverIsComputedTogether) {
  for (const auto& [heads, keys, values] : {std::tuple{1, 1, 1}, {2, 4, 7}, {1, 16, 16}, {3, 24, 40}, {2, 128, 128}, {1, 130, 131}}) {
    for (const int tokens : {1, kDeltaChunk - 1, kDeltaChunk, kDeltaChunk + 1, 5 * kDeltaChunk + 3}) {
      const DeltaSequence begin(heads, keys, values, tokens, rng);
      const std::vector<double> want = begin.plainly({begin.state.begin(), begin.state.end()}, tokens);
      DeltaSequence whole = begin;
      whole.run(fast(), 0, tokens, kDeltaChunk);
      DeltaSequence reference = begin;
      reference.run(plain(), 0, tokens, kDeltaChunk);
      const double tolerance = 64 * kFloatEps * std::sqrt(keys) * 8;  // queries of norm sqrt(keys), sums of a few values of size 1
      for (size_t i = 0; i < want.size(); ++i) {
        ASSERT_NEAR(whole.out[i], want[i], tolerance * (1 + std::abs(want[i]))) << keys << " " << values << " " << tokens;
        ASSERT_NEAR(reference.out[i], want[i], tolerance * (1 + std::abs(want[i])));
      }
      for (const int most : {1, 2, 3, 5, kDeltaChunk - 1}) {
        DeltaSequence cut = begin;
        cut.run(fast(), 0, tokens, most);
        ASSERT_TRUE(cut.out == whole.out && cut.state == whole.state) << keys << " " << values << " " << tokens << " by " << most;
      }
      DeltaSequence mixed = begin;  // a prompt, then tokens one by one
      mixed.run(fast(), 0, tokens / 2, kDeltaChunk);
      mixed.run(fast(), tokens / 2, tokens, 1);
      ASSERT_TRUE(mixed.out == whole.out && mixed.state == whole.state);
    }
  }
}

TEST_P(KernelsTest, ClosedGatesWithoutUp) {
  for (const size_t count : {1U, 7U, 16U, 31U}) {
    Values want(DType::f32, count, rng, 4), have = want;
    plain().silu_mul(want.data(), nullptr, DType::f32, static_cast<int64_t>(count));
    fast().silu_mul(have.data(), nullptr, DType::f32, static_cast<int64_t>(count));
    for (size_t i = 0; i < count; ++i) ASSERT_NEAR(have[i], want[i], 16 * kFloatEps * (1 + std::abs(want[i])));
  }
}

TEST_P(KernelsTest, GeluIsTheReference) {
  for (const size_t count : {1U, 7U, 16U, 31U, 400U}) {
    Values want(DType::f32, count, rng, 4), have = want;
    const Values up(DType::f32, count, rng), x = want;
    plain().gelu_mul(static_cast<float*>(want.data()), static_cast<const float*>(up.data()), static_cast<int64_t>(count));
    fast().gelu_mul(static_cast<float*>(have.data()), static_cast<const float*>(up.data()), static_cast<int64_t>(count));
    for (size_t i = 0; i < count; ++i) ASSERT_NEAR(have[i], want[i], 32 * kFloatEps * (1 + std::abs(x[i] * up[i]))) << x[i];
  }
}

TEST_P(KernelsTest, GemmScalesWhatItAdds) {
  constexpr int64_t kRows = 37, kCols = 50, kInner = 70;
  const Values x(DType::f32, kRows * kInner, rng), w(DType::f32, kCols * kInner, rng), bias(DType::f32, kCols, rng);
  for (const bool add : {false, true}) {
    Values want(DType::f32, kRows * kCols, rng), have = want;
    Gemm op{.x = x.data(),
            .x_dtype = DType::f32,
            .x_stride = kInner,
            .w = w.data(),
            .w_dtype = DType::f32,
            .bias = bias.data(),
            .bias_dtype = DType::f32,
            .y = want.data(),
            .y_stride = kCols,
            .add = add,
            .scale = 0.22F,
            .k = kInner,
            .scratch = gemm_scratch()};
    plain().gemm(op, {0, kRows}, {0, kCols});
    op.y = have.data();
    fast().gemm(op, {0, kRows}, {0, kCols});
    for (size_t i = 0; i < kRows * kCols; ++i) ASSERT_NEAR(have[i], want[i], 4 * kInner * kFloatEps);
  }
}

TEST_P(KernelsTest, RotateIsTheReference) {
  for (const int64_t dim : {2, 16, 20, 48, 64, 128}) {
    const Values cos(DType::f32, static_cast<size_t>(dim / 2), rng), sin(DType::f32, static_cast<size_t>(dim / 2), rng);
    Values want(DType::f32, static_cast<size_t>(dim), rng);
    Values have = want;
    plain().rotate(static_cast<float*>(want.data()), static_cast<const float*>(cos.data()), static_cast<const float*>(sin.data()), dim);
    fast().rotate(static_cast<float*>(have.data()), static_cast<const float*>(cos.data()), static_cast<const float*>(sin.data()), dim);
    for (size_t i = 0; i < static_cast<size_t>(dim); ++i) ASSERT_NEAR(have[i], want[i], 32 * kFloatEps);
  }
}

TEST_P(KernelsTest, ElementwiseOpsAreTheReference) {
  for (const size_t count : {1U, 7U, 16U, 31U, 400U}) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      Values want(dtype, count, rng, 4), have = want;
      const Values up(dtype, count, rng);
      plain().silu_mul(want.data(), up.data(), dtype, static_cast<int64_t>(count));
      fast().silu_mul(have.data(), up.data(), dtype, static_cast<int64_t>(count));
      const double eps = dtype == DType::bf16 ? kBf16Eps : 16 * kFloatEps;
      for (size_t i = 0; i < count; ++i) ASSERT_NEAR(have[i], want[i], eps * std::abs(want[i]) + 1e-30);
      Values clamped(DType::f32, count, rng, 4), fast_clamped = clamped;
      const Values beside(DType::f32, count, rng, 4);
      plain().clamped_swiglu(static_cast<float*>(clamped.data()), static_cast<const float*>(beside.data()), 3, static_cast<int64_t>(count));
      fast().clamped_swiglu(static_cast<float*>(fast_clamped.data()), static_cast<const float*>(beside.data()), 3, static_cast<int64_t>(count));
      for (size_t i = 0; i < count; ++i) ASSERT_NEAR(fast_clamped[i], clamped[i], 16 * kFloatEps * std::abs(clamped[i]) + 1e-30);
      Values sum(DType::f32, count, rng), fast_sum = sum;
      plain().axpy(static_cast<float*>(sum.data()), 0.37F, up.data(), dtype, static_cast<int64_t>(count));
      fast().axpy(static_cast<float*>(fast_sum.data()), 0.37F, up.data(), dtype, static_cast<int64_t>(count));
      for (size_t i = 0; i < count; ++i) ASSERT_NEAR(fast_sum[i], sum[i], 4 * kFloatEps * (std::abs(sum[i]) + std::abs(up[i])));
    }
  }
}

// Rounding is exact, so the bits are the reference's: ties, subnormals, infinities and NaN included.
TEST_P(KernelsTest, ConvertHasTheReferencesBits) {
  std::vector<float> x{0.0F,
                       -0.0F,
                       1.0F,
                       0x1.01p0F,
                       0x1.03p0F,
                       0x1.0101p0F,
                       0x1p-130F,
                       -0x1.8p-127F,
                       0x1p-149F,
                       3.4e38F,
                       std::numeric_limits<float>::infinity(),
                       -std::numeric_limits<float>::infinity(),
                       std::numeric_limits<float>::quiet_NaN(),
                       std::numeric_limits<float>::signaling_NaN()};
  while (x.size() < 1003) x.push_back(std::bit_cast<float>(static_cast<uint32_t>(rng())));
  std::vector<uint16_t> want(x.size()), have(x.size());
  plain().convert(x.data(), DType::f32, want.data(), DType::bf16, static_cast<int64_t>(x.size()));
  fast().convert(x.data(), DType::f32, have.data(), DType::bf16, static_cast<int64_t>(x.size()));
  EXPECT_EQ(have, want);
  std::vector<uint16_t> halves;
  for (uint32_t i = 0; i < 0x10000; ++i) halves.push_back(static_cast<uint16_t>(i));
  for (const DType from : {DType::bf16, DType::f16}) {
    std::vector<float> a(halves.size()), b(halves.size());
    plain().convert(halves.data(), from, a.data(), DType::f32, static_cast<int64_t>(a.size()));
    fast().convert(halves.data(), from, b.data(), DType::f32, static_cast<int64_t>(b.size()));
    for (size_t i = 0; i < a.size(); ++i) ASSERT_TRUE(a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) << name_of(from) << " " << i;
  }
}

TEST_P(KernelsTest, MaximumAndExpSumAreTheReference) {
  for (const size_t count : {1U, 2U, 15U, 16U, 17U, 33U, 1000U}) {
    const Values x(DType::f32, count, rng, 20);
    const auto* p = static_cast<const float*>(x.data());
    const float top = fast().maximum(p, static_cast<int64_t>(count));
    ASSERT_EQ(top, plain().maximum(p, static_cast<int64_t>(count)));
    std::vector<float> want(count), have(count);
    const float sum = plain().exp_sum(p, top, want.data(), static_cast<int64_t>(count));
    ASSERT_NEAR(fast().exp_sum(p, top, have.data(), static_cast<int64_t>(count)), sum, sum * 32 * kFloatEps);
    for (size_t i = 0; i < count; ++i) {
      const double rounded_argument = std::abs(p[i] - top);  // x - top has half a unit of error, which exp multiplies by itself
      ASSERT_NEAR(have[i], want[i], want[i] * (8 + rounded_argument) * kFloatEps + 1e-38) << p[i];
    }
  }
  const std::vector<float> edges{-1000, -std::numeric_limits<float>::infinity(), -104, -88, -87, 0, 88};
  std::vector<float> e(edges.size());
  fast().exp_sum(edges.data(), 0, e.data(), static_cast<int64_t>(edges.size()));
  for (size_t i = 0; i < edges.size(); ++i) EXPECT_NEAR(e[i], std::exp(edges[i]), std::exp(edges[i]) * 8 * kFloatEps + 0x1p-148F) << edges[i];
}

struct AttentionCase {
  int kv_heads, heads, head_dim;
  int64_t queries, first_position, window;
  DType dtype;
  DType kv_dtype = dtype;
  int latent_dim = 0;
  bool sinks = false;
  int64_t chunk = 0;

  [[nodiscard]] size_t head_bytes() const { return latent_dim > 0 ? latent_page_bytes(kv_dtype, head_dim) : kv_head_bytes(kv_dtype, head_dim); }
  [[nodiscard]] size_t q_stride() const { return static_cast<size_t>(kv_heads * heads * head_dim + 8); }
  [[nodiscard]] size_t out_stride() const { return static_cast<size_t>(kv_heads * heads * (latent_dim > 0 ? latent_dim : head_dim) + 8); }
};

// Pages in shuffled order, garbage (NaN) in the slots that no query may see.
class Pages {
 public:
  Pages(const AttentionCase& c, std::mt19937& rng) : c_(c) {
    const int64_t positions = c.first_position + c.queries;
    const auto count = static_cast<size_t>((positions + kPageTokens - 1) / kPageTokens);
    page_bytes = static_cast<size_t>(c.kv_heads) * c.head_bytes();
    memory.assign(page_bytes * (count + 2), std::byte{0xff});
    for (size_t i = 0; i < count; ++i) table.push_back(static_cast<int32_t>((i * 5 + 1) % (count + 2)));
    if ((count + 2) % 5 == 0) {
      for (size_t i = 0; i < count; ++i) table[i] = static_cast<int32_t>(count + 1 - i);
    }
    for (int64_t p = 0; p < positions; ++p) {
      std::byte* page = memory.data() + static_cast<size_t>(table[static_cast<size_t>(p / kPageTokens)]) * page_bytes;
      for (int head = 0; head < c.kv_heads; ++head, page += c.head_bytes()) {
        const Values key(c.dtype, static_cast<size_t>(c.head_dim), rng), value(c.dtype, static_cast<size_t>(c.head_dim), rng);
        store(c.dtype, key.data(), value.data(), p % kPageTokens, page);
      }
    }
    scratch.resize(static_cast<size_t>(attention_scratch(c.head_dim)));
    for (int i = 0; i < c.kv_heads * c.heads; ++i)
      sinks.push_back(i % 5 == 3 ? -std::numeric_limits<float>::infinity() : static_cast<float>(i % 7) * 3 - 8);
  }
  void store(DType dtype, const void* key, const void* value, int64_t slot, std::byte* page) const {
    const auto with = [&]<typename T>(const T* k, const void* v) {
      if (c_.latent_dim > 0) {
        store_latent(k, c_.head_dim, slot, page);
      } else if (c_.kv_dtype == DType::i8) {
        store_kv<int8_t>(k, static_cast<const T*>(v), c_.head_dim, slot, page);
      } else {
        store_kv<T>(k, static_cast<const T*>(v), c_.head_dim, slot, page);
      }
    };
    dtype == DType::f32 ? with(static_cast<const float*>(key), value) : with(static_cast<const bf16*>(key), value);
  }
  Attention op(const void* q, void* out) {
    return {q,
            static_cast<int64_t>(c_.q_stride()),
            out,
            static_cast<int64_t>(c_.out_stride()),
            c_.dtype,
            c_.kv_dtype,
            c_.kv_heads,
            c_.heads,
            c_.head_dim,
            c_.latent_dim,
            c_.queries,
            c_.first_position,
            memory.data(),
            page_bytes,
            table.data(),
            1,
            0,
            c_.head_bytes(),
            c_.window,
            c_.chunk,
            1 / std::sqrt(static_cast<float>(c_.head_dim)),
            c_.sinks ? sinks.data() : nullptr,
            scratch.data()};
  }
  AttentionCase c_;
  std::vector<std::byte> memory;
  std::vector<int32_t> table;
  std::vector<float> scratch, sinks;
  size_t page_bytes = 0;
};

TEST_P(KernelsTest, AttentionIsTheReference) {
  for (const AttentionCase& c : {AttentionCase{2, 1, 16, 1, 0, 0, DType::f32},
                                 AttentionCase{1, 3, 32, 20, 0, 0, DType::bf16},
                                 AttentionCase{3, 2, 48, 5, 70, 0, DType::f32},
                                 AttentionCase{1, 4, 20, 40, 13, 7, DType::f32},
                                 AttentionCase{1, 8, 128, 3, 300, 0, DType::bf16},
                                 AttentionCase{4, 1, 34, 17, 31, 24, DType::bf16},
                                 AttentionCase{1, 7, 2, 9, 62, 0, DType::bf16},
                                 AttentionCase{2, 5, 80, 70, 0, 33, DType::bf16},
                                 AttentionCase{1, 1, 256, 1, 95, 0, DType::f32},
                                 AttentionCase{2, 5, 32, 70, 20, 0, DType::bf16, DType::bf16, 0, false, 24},
                                 AttentionCase{2, 2, 16, 9, 90, 0, DType::f32, DType::f32, 0, false, 48},
                                 AttentionCase{4, 8, 64, 1, 191, 0, DType::bf16, DType::bf16, 0, false, 48},
                                 AttentionCase{4, 8, 64, 1, 192, 0, DType::bf16, DType::bf16, 0, false, 64},
                                 AttentionCase{4, 8, 128, 1, 200, 0, DType::bf16},
                                 AttentionCase{16, 1, 64, 1, 70, 0, DType::bf16},
                                 AttentionCase{2, 12, 48, 1, 99, 40, DType::f32},
                                 AttentionCase{8, 20, 16, 1, 40, 0, DType::bf16},
                                 AttentionCase{4, 8, 128, 1, 200, 0, DType::bf16, DType::i8},
                                 AttentionCase{2, 3, 34, 70, 11, 33, DType::bf16, DType::i8},
                                 AttentionCase{3, 2, 20, 40, 0, 0, DType::f32, DType::i8},
                                 AttentionCase{1, 16, 576, 1, 100, 0, DType::bf16, DType::bf16, 512},
                                 AttentionCase{1, 130, 48, 1, 63, 0, DType::bf16, DType::bf16, 32},
                                 AttentionCase{1, 5, 50, 40, 21, 0, DType::f32, DType::f32, 34},
                                 AttentionCase{1, 5, 22, 70, 0, 9, DType::bf16, DType::bf16, 18},
                                 AttentionCase{2, 5, 80, 70, 0, 33, DType::bf16, DType::bf16, 0, true},
                                 AttentionCase{4, 8, 128, 1, 200, 100, DType::bf16, DType::bf16, 0, true},
                                 AttentionCase{3, 2, 20, 40, 0, 0, DType::f32, DType::i8, 0, true},
                                 AttentionCase{1, 70, 64, 2, 0, 1, DType::f32, DType::f32, 0, true},
                                 AttentionCase{1, 3, 4, 33, 5, 0, DType::f32, DType::f32, 2}}) {
    Pages pages(c, rng);
    const size_t count = static_cast<size_t>(c.queries) * c.out_stride();
    const Values q(c.dtype, static_cast<size_t>(c.queries) * c.q_stride(), rng, 2);
    Values want(c.dtype, count, rng), have = want;
    plain().attention(pages.op(q.data(), want.data()));
    fast().attention(pages.op(q.data(), have.data()));
    for (size_t i = 0; i < count; ++i) {
      // Both results are rounded, a unit apart at most, and so are the weights, for values of about 4 at most.
      const double tolerance = c.dtype == DType::bf16 ? 2 * kBf16Eps * (1 + std::abs(want[i])) : 1e-5;
      ASSERT_NEAR(have[i], want[i], tolerance) << c.head_dim << " " << i;
    }
  }
}

// The pages of a sequence behind memory that cannot be read, where page -1 lies.
class Guarded {
 public:
  explicit Guarded(const Pages& pages) : guard_((pages.page_bytes + 4095) / 4096 * 4096), bytes_(guard_ + pages.memory.size()) {
    at_ = static_cast<std::byte*>(::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    std::copy(pages.memory.begin(), pages.memory.end(), at_ + guard_);
    ::mprotect(at_, guard_, PROT_NONE);
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { ::munmap(at_, bytes_); }
  [[nodiscard]] const std::byte* pages() const { return at_ + guard_; }

 private:
  size_t guard_, bytes_;
  std::byte* at_;
};

// Pages outside of every query's window may be gone, or be other sequences': they are not read. The table is one of three groups of layers.
TEST_P(KernelsTest, AttentionReadsNoPageThatNoQuerySees) {
  for (const AttentionCase& c : {AttentionCase{4, 8, 64, 1, 500, 1, DType::bf16}, AttentionCase{4, 8, 64, 1, 500, 128, DType::bf16, DType::i8},
                                 AttentionCase{2, 100, 32, 1, 415, 64, DType::f32}, AttentionCase{2, 5, 80, 70, 300, 33, DType::bf16},
                                 AttentionCase{2, 5, 80, 1, 384, 0, DType::bf16, DType::bf16, 0, false, 128},
                                 AttentionCase{2, 5, 32, 20, 380, 0, DType::f32, DType::f32, 0, false, 96},
                                 AttentionCase{1, 9, 48, 33, 300, 64, DType::bf16, DType::bf16, 32}}) {
    Pages pages(c, rng);
    const size_t count = static_cast<size_t>(c.queries) * c.out_stride();
    const Values q(c.dtype, static_cast<size_t>(c.queries) * c.q_stride(), rng, 2);
    Values want(c.dtype, count, rng), have = want;
    fast().attention(pages.op(q.data(), want.data()));

    const Guarded guarded(pages);
    std::vector<int32_t> table(3 * pages.table.size(), -1);
    const int64_t first_page = first_seen(c.first_position, c.window, c.chunk) / kPageTokens;
    ASSERT_GT(first_page, 2);
    for (size_t i = static_cast<size_t>(first_page); i < pages.table.size(); ++i) table[3 * i + 1] = pages.table[i];
    for (const Kernels* kernels : {&fast(), &plain()}) {
      Attention op = pages.op(q.data(), have.data());
      op.pages = guarded.pages();
      op.page_table = table.data() + 1;
      op.table_stride = 3;
      kernels->attention(op);
      for (size_t i = 0; i < count && kernels == &fast(); ++i) ASSERT_EQ(have[i], want[i]) << c.head_dim << " " << i;
    }
  }
}

// A query alone, with nothing but NaN behind it, has the bits that it has in a chunk: what preemption and chunked prefill rest on.
TEST_P(KernelsTest, AttentionBitsDoNotDependOnTheChunk) {
  for (const AttentionCase& c :
       {AttentionCase{2, 2, 48, 50, 20, 0, DType::bf16}, AttentionCase{1, 3, 20, 50, 0, 17, DType::f32},
        AttentionCase{3, 8, 64, 40, 7, 40, DType::bf16}, AttentionCase{2, 4, 20, 50, 9, 0, DType::bf16, DType::i8},
        AttentionCase{2, 4, 20, 50, 9, 30, DType::bf16, DType::bf16, 0, true}, AttentionCase{2, 9, 20, 50, 9, 0, DType::f32, DType::f32, 0, true},
        AttentionCase{1, 9, 40, 50, 9, 0, DType::bf16, DType::bf16, 24}, AttentionCase{1, 9, 40, 50, 9, 0, DType::f32, DType::f32, 32}}) {
    const size_t stride = c.out_stride();
    const Values q(c.dtype, static_cast<size_t>(c.queries) * c.q_stride(), rng, 2);
    Values whole(c.dtype, static_cast<size_t>(c.queries) * stride, rng), single = whole;
    const auto seed = rng();
    std::mt19937 same(seed);
    Pages pages(c, same);
    fast().attention(pages.op(q.data(), whole.data()));
    for (int64_t i = 0; i < c.queries; ++i) {
      AttentionCase up_to = c;
      up_to.queries = i + 1;
      same.seed(seed);
      Pages fewer(up_to, same);
      const auto at = [&](size_t width) { return static_cast<size_t>(i) * width * bytes_of(c.dtype); };
      Attention op = fewer.op(static_cast<const std::byte*>(q.data()) + at(c.q_stride()), static_cast<std::byte*>(single.data()) + at(stride));
      op.num_queries = 1;
      op.first_position += i;
      fast().attention(op);
    }
    for (size_t i = 0; i < static_cast<size_t>(c.queries) * stride; ++i) ASSERT_EQ(single[i], whole[i]) << c.head_dim << " " << i;
  }
}

// Attention over keys that come a range at a time has the bits of attention over all of them, and values may have a width of their own.
TEST_P(KernelsTest, AttentionOverRangesOfKeysHasTheSameBits) {
  struct Case {
    int head_dim, value_width;
    int64_t queries, first_position, window;
    DType dtype;
    bool sinks;
  };
  for (const Case& c : {Case{192, 128, 70, 60, 0, DType::bf16, false}, Case{34, 20, 40, 90, 0, DType::f32, false},
                        Case{6, 33, 9, 100, 0, DType::bf16, false}, Case{16, 48, 50, 80, 41, DType::f32, true}}) {
    const int64_t positions = c.first_position + c.queries;
    const auto num_pages = static_cast<size_t>(ceil_div<int64_t>(positions, kPageTokens));
    const size_t page_bytes = static_cast<size_t>(kPageTokens * (c.head_dim + c.value_width)) * bytes_of(c.dtype);
    std::vector<std::byte> memory(num_pages * page_bytes);
    for (size_t i = 0; i < num_pages; ++i) {
      const Values numbers(c.dtype, page_bytes / bytes_of(c.dtype), rng);
      std::memcpy(memory.data() + i * page_bytes, numbers.data(), page_bytes);
    }
    std::vector<int32_t> table;
    for (size_t i = num_pages; i-- > 0;) table.push_back(static_cast<int32_t>(i));
    const Values q(c.dtype, static_cast<size_t>(c.queries * c.head_dim), rng, 2);
    const float sink = 1;
    const int64_t carry_stride = attention_carry(c.value_width) + 3;
    std::vector<float> scratch(static_cast<size_t>(attention_scratch(std::max(c.head_dim, c.value_width)))),
        carry(static_cast<size_t>(c.queries * carry_stride), std::nanf(""));
    const auto run = [&](const Kernels& kernels, const std::vector<Range>& ranges) {
      Values out(c.dtype, static_cast<size_t>(c.queries * c.value_width), rng);
      for (const Range& keys : ranges) {
        const int64_t before = std::max<int64_t>(0, keys.begin - c.first_position);
        Attention op{.q = static_cast<const std::byte*>(q.data()) + static_cast<size_t>(before * c.head_dim) * bytes_of(c.dtype),
                     .q_stride = c.head_dim,
                     .out = static_cast<std::byte*>(out.data()) + static_cast<size_t>(before * c.value_width) * bytes_of(c.dtype),
                     .out_stride = c.value_width,
                     .dtype = c.dtype,
                     .kv_dtype = c.dtype,
                     .kv_heads = 1,
                     .heads = 1,
                     .head_dim = c.head_dim,
                     .num_queries = c.queries - before,
                     .first_position = c.first_position + before,
                     .pages = memory.data(),
                     .page_bytes = page_bytes,
                     .page_table = table.data() + keys.begin / kPageTokens,
                     .window = c.window,
                     .scale = 1 / std::sqrt(static_cast<float>(c.head_dim)),
                     .sinks = c.sinks ? &sink : nullptr,
                     .scratch = scratch.data(),
                     .value_width = c.value_width,
                     .first_key = keys.begin,
                     .num_keys = keys.size(),
                     .carry = carry.data() + before * carry_stride,
                     .carry_stride = carry_stride};
        if (keys.size() == 0) op.carry = nullptr;  // all at once
        kernels.attention(op);
      }
      return out;
    };
    const int64_t end = round_up<int64_t>(positions, kPageTokens);
    const Values whole = run(fast(), {{0, 0}});
    const Values want = run(plain(), {{0, 0}});
    const Values plain_ranges = run(plain(), {{0, 64}, {64, end}});
    for (const auto& ranges : std::vector<std::vector<Range>>{{{0, end}}, {{0, 64}, {64, end}}, {{0, 32}, {32, 64}, {64, 96}, {96, end}}}) {
      const Values have = run(fast(), ranges);
      const Values plain_have = run(plain(), ranges);
      for (size_t i = 0; i < static_cast<size_t>(c.queries * c.value_width); ++i) {
        ASSERT_EQ(have[i], whole[i]) << c.head_dim << " " << ranges.size() << " " << i;
        ASSERT_EQ(plain_have[i], plain_ranges[i]) << c.head_dim << " " << ranges.size() << " " << i;
        ASSERT_NEAR(plain_have[i], want[i], c.dtype == DType::bf16 ? 2 * kBf16Eps * (1 + std::abs(want[i])) : 1e-5);
        ASSERT_NEAR(have[i], want[i], c.dtype == DType::bf16 ? 2 * kBf16Eps * (1 + std::abs(want[i])) : 1e-5);
      }
    }
  }
}

// Pages of latents with NaN where no token is, expanded by `kernels` from page `first` on; the result's pages are as large as `op` says.
struct Latents {
  Latents(DType type, int rank, int plain, int rope, int v, std::vector<int32_t> counts, std::mt19937& rng)
      : tokens(std::move(counts)), weights(type, static_cast<size_t>((plain + v) * rank), rng, 0.2F) {
    op = {.dtype = type, .w = weights.data(), .kv_rank = rank, .plain_dim = plain, .rope_dim = rope, .v_dim = v};
    const int64_t width = rank + rope;
    const size_t bytes = latent_page_bytes(type, width);
    memory.assign(tokens.size() * bytes, std::byte{0xff});
    for (size_t i = 0; i < tokens.size(); ++i) {
      pages.push_back(memory.data() + i * bytes);
      for (int64_t t = 0; t < tokens[i]; ++t) {
        const Values key(type, static_cast<size_t>(width), rng);
        if (type == DType::f32) store_latent(static_cast<const float*>(key.data()), width, t, memory.data() + i * bytes);
        if (type == DType::bf16) store_latent(static_cast<const bf16*>(key.data()), width, t, memory.data() + i * bytes);
      }
    }
  }
  std::vector<std::byte> expand(const Kernels& kernels, size_t first, size_t count) {
    std::vector<std::byte> out(count * op.page_bytes(), std::byte{0});
    std::vector<float> room(op.scratch_bytes() / sizeof(float) + 16);
    op.scratch = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(room.data()) + 63) / 64 * 64);
    op.pages = pages.data() + first;
    op.tokens = tokens.data() + first;
    op.num_pages = static_cast<int64_t>(count);
    op.out = out.data();
    kernels.expand_latents(op);
    return out;
  }
  // Element d of the key of a token, or of its value.
  [[nodiscard]] float element(const std::vector<std::byte>& out, size_t page, bool value, int64_t t, int64_t d) const {
    const int64_t at = value ? kPageTokens * op.key_dim() + value_index(op.dtype, op.v_dim, t, d) : key_index(op.dtype, t, d);
    const std::byte* from = out.data() + page * op.page_bytes();
    return op.dtype == DType::f32 ? reinterpret_cast<const float*>(from)[at] : to_float(reinterpret_cast<const bf16*>(from)[at]);
  }
  std::vector<int32_t> tokens;
  Values weights;
  LatentExpansion op;
  std::vector<std::byte> memory;
  std::vector<const std::byte*> pages;
};

TEST_P(KernelsTest, ExpandedLatentsAreTheReference) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const auto& [rank, plain, rope, v] : std::vector<std::array<int, 4>>{{512, 128, 64, 128}, {34, 7, 2, 9}, {16, 40, 8, 3}, {64, 1, 16, 50}}) {
      Latents latents(dtype, rank, plain, rope, v, {32, 31, 17, 1, 20, 27}, rng);
      const size_t pages = latents.tokens.size();
      const auto want = latents.expand(reference_kernels(), 0, pages);
      const auto have = latents.expand(fast(), 0, pages);
      const double tolerance = (dtype == DType::bf16 ? 2 * kBf16Eps : 0) + rank * kFloatEps;
      for (size_t i = 0; i < pages; ++i) {
        const auto alone = latents.expand(fast(), i, 1);
        for (int64_t t = 0; t < latents.tokens[i]; ++t) {
          for (const bool value : {false, true}) {
            for (int64_t d = 0; d < (value ? v : latents.op.key_dim()); ++d) {
              const float x = latents.element(want, i, value, t, d);
              ASSERT_NEAR(latents.element(have, i, value, t, d), x, tolerance * (1 + std::abs(x))) << rank << " " << i << " " << t << " " << d;
              ASSERT_EQ(latents.element(alone, 0, value, t, d), latents.element(have, i, value, t, d)) << "bits depend on what is beside it";
            }
          }
          const bool odd_end = dtype == DType::bf16 && t % 2 == 0 && t + 1 == latents.tokens[i];
          if (odd_end) {
            ASSERT_EQ(latents.element(have, i, true, t + 1, 0), 0);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace moegen
