// Products, of plain and of coded weights.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/checked.h"
#include "tests/kernels/kernels_test.h"

namespace moegen {
namespace {

struct GemmCase {
  DType x, w, y;
  int64_t m, n, k;
  bool gather, bias, add;
};

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

// Two matrices that are multiplied with the same rows together have the bits of each by itself, whether of one type or not.
TEST_P(KernelsTest, TwoGemmsOfTheSameRowsAreEachByItself) {
  struct Case {
    int64_t m, n, k;
    DType x, first, second;
  };
  for (const auto& [m, n, k, x_type, first_type, second_type] :
       {Case{1, 40, 203, DType::bf16, DType::bf16, DType::bf16}, Case{24, 900, 70, DType::bf16, DType::bf16, DType::bf16},
        Case{70, 230, 1500, DType::bf16, DType::bf16, DType::bf16}, Case{300, 401, 2100, DType::bf16, DType::bf16, DType::bf16},
        Case{140, 192, 600, DType::bf16, DType::bf16, DType::f16}, Case{130, 50, 300, DType::bf16, DType::f32, DType::bf16},
        Case{270, 200, 300, DType::f32, DType::bf16, DType::bf16}}) {
    const Values x(x_type, static_cast<size_t>((m + 3) * k), rng);
    const Values first(first_type, static_cast<size_t>(n * k), rng), second(second_type, static_cast<size_t>((n + 1) * k), rng);
    std::vector<int32_t> rows;
    for (int64_t i = 0; i < m; ++i) rows.push_back(static_cast<int32_t>((i * 7 + 2) % (m + 3)));
    std::vector<float> want[2], have[2];
    for (auto* y : {&want[0], &want[1], &have[0], &have[1]}) y->resize(static_cast<size_t>(m * n));
    Gemm op{.x = x.data(), .x_dtype = x_type, .x_stride = k, .rows = rows.data(), .w = first.data(), .w_dtype = first_type, .y = want[0].data()};
    op.y_stride = n;
    op.k = k;
    op.scratch = gemm_scratch();
    Gemm other = op;
    other.w = second.data();
    other.w_dtype = second_type;
    other.w_first = 1;
    other.y = want[1].data();
    other.scale = 0.5F;
    fast().gemm(op, {0, m}, {0, n});
    fast().gemm(other, {0, m}, {0, n});
    op.y = have[0].data();
    other.y = have[1].data();
    op.also = &other;
    const int64_t col = 1 + static_cast<int64_t>(rng() % static_cast<uint64_t>(n - 1));
    for (const Range c : {Range{0, col}, Range{col, n}}) fast().gemm(op, {0, m}, c);
    for (int i = 0; i < 2; ++i)
      ASSERT_EQ(std::memcmp(have[i].data(), want[i].data(), want[i].size() * sizeof(float)), 0) << i << " of " << m << " x " << n << " x " << k;
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

struct Product {
  DType x_type;
  int64_t m, n, k, first, step;
};

// To expand on the way is to multiply with the expanded weights, to the bit and on every path: however many rows there are, whatever
// part of the columns, and from whichever row of the weights on. `coded` has the fields of the weights, `values` what they are; `plain` may be null.
void expect_product_of_expansion(const Kernels& fast, const Kernels* plain, void* scratch, const Product& p, const Gemm& coded,
                                 const std::vector<float>& values, std::mt19937& rng) {
  const Values expanded(p.x_type, values), x(p.x_type, static_cast<size_t>(p.m * p.k), rng);
  std::vector<float> want(static_cast<size_t>(p.m * p.n)), have(want.size()), plain_have(want.size());
  const auto into = [&](std::vector<float>& y, Gemm op) {
    op.x = x.data();
    op.x_dtype = p.x_type;
    op.x_stride = op.k = p.k;
    op.w_first = p.first;
    op.w_step = p.step;
    op.y = y.data();
    op.y_stride = p.n;
    op.scratch = scratch;
    return op;
  };
  fast.gemm(into(want, {.w = expanded.data(), .w_dtype = p.x_type}), {0, p.m}, {0, p.n});
  const auto any = [&](int64_t most) { return 1 + static_cast<int64_t>(rng() % static_cast<uint64_t>(most)); };
  const int64_t row = any(p.m), col = any(p.n);
  for (const Range r : {Range{0, row}, Range{row, p.m}}) {
    for (const Range c : {Range{0, col}, Range{col, p.n}}) fast.gemm(into(have, coded), r, c);
  }
  ASSERT_EQ(std::memcmp(have.data(), want.data(), want.size() * sizeof(float)), 0)
      << "m n k first group " << p.m << " " << p.n << " " << p.k << " " << p.first << " " << coded.w_group;
  if (plain == nullptr) return;
  plain->gemm(into(plain_have, coded), {0, p.m}, {0, p.n});
  double largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(static_cast<double>(value)));
  for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(have[i], plain_have[i], 4 * kFloatEps * static_cast<double>(p.k + 4) * largest);
}

TEST_P(KernelsTest, GemmOfF8IsThatOfItsExpansion) {
  const auto any = [&](int64_t most) { return 1 + static_cast<int64_t>(rng() % static_cast<uint64_t>(most)); };
  for (int trial = 0; trial < 60; ++trial) {
    const DType x_type = trial % 2 == 0 ? DType::bf16 : DType::f32;
    const int64_t m = any(trial % 3 == 0 ? 8 : trial % 3 == 1 ? 30 : 150), n = any(300), k = any(trial % 10 == 0 ? 9000 : 700), first = any(140) - 1;
    const int64_t step = any(2);
    const bool rows_apart = trial % 4 == 3;
    const F8Weights w(first + n * step, k, rows_apart ? 1 : kF8Block, rows_apart ? k : kF8Block, rng);
    expect_product_of_expansion(fast(), trial % 5 == 1 ? &plain() : nullptr, gemm_scratch(), {x_type, m, n, k, first, step},
                                {.w = w.codes.data(),
                                 .w_dtype = DType::f8_e4m3,
                                 .w_scales = w.scales.data(),
                                 .w_group = rows_apart ? k : kF8Block,
                                 .w_block_rows = rows_apart ? 1 : kF8Block},
                                w.values, rng);
    if (HasFatalFailure()) return;
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
    expect_product_of_expansion(fast(), trial % 5 == 1 ? &plain() : nullptr, gemm_scratch(), {x_type, m, n, k, first, step},
                                {.w = w.codes.data(), .w_dtype = DType::f4, .w_scales = w.scales.data()}, w.values, rng);
    if (HasFatalFailure()) return;
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
    expect_product_of_expansion(fast(), trial % 5 == 1 ? &plain() : nullptr, gemm_scratch(), {x_type, m, n, k, first, step},
                                {.w = w.codes.data(),
                                 .w_dtype = bits == 4 ? DType::i4 : DType::u8,
                                 .w_scales = w.scales.data(),
                                 .w_scale_dtype = scale_dtype,
                                 .w_zeros = w.zeros.empty() ? nullptr : w.zeros.data(),
                                 .w_group = group},
                                w.values, rng);
    if (HasFatalFailure()) return;
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
  constexpr int64_t kCols = 256 * 16;      // a scale, a code
  constexpr int64_t kRoom = 5 * kF4Block;  // blocks that are turned together, and a rest
  for (const auto& [x_type, block, m] : std::vector<std::tuple<DType, int64_t, int64_t>>{{DType::f32, 0, 1},
                                                                                         {DType::f32, 3, 20},
                                                                                         {DType::f32, 4, 60},
                                                                                         {DType::bf16, 0, 1},
                                                                                         {DType::bf16, 3, 8},
                                                                                         {DType::bf16, 4, 20},
                                                                                         {DType::bf16, 1, 60}}) {
    std::vector<f4_pair> codes(static_cast<size_t>(kCols * kRoom / 2));
    std::vector<f8_e8m0> scales(static_cast<size_t>(kCols * kRoom / kF4Block), f8_e8m0{127});
    for (int64_t n = 0; n < kCols; ++n) {
      const int64_t at = n * kRoom / kF4Block + block;
      scales[static_cast<size_t>(at)].bits = static_cast<uint8_t>(n / 16);
      codes[static_cast<size_t>(at * 16 + n % 16)].bits = static_cast<uint8_t>(n % 2 == 0 ? n % 16 : n % 16 << 4);
    }
    const Values x(x_type, std::vector<float>(static_cast<size_t>(m * kRoom), 1));
    std::vector<float> y(static_cast<size_t>(m * kCols));
    fast().gemm({.x = x.data(),
                 .x_dtype = x_type,
                 .x_stride = kRoom,
                 .w = codes.data(),
                 .w_dtype = DType::f4,
                 .w_scales = scales.data(),
                 .y = y.data(),
                 .y_stride = kCols,
                 .k = kRoom,
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

// Among those that are turned together, and among the rest.
TEST_P(KernelsTest, EveryF8CodeIsItsValue) {
  constexpr int64_t kCodes = 256, kRoom = 80;
  const float scales[] = {0.5F, -3};
  for (const auto& [place, m] : std::vector<std::pair<int64_t, int64_t>>{{3, 1}, {70, 1}, {3, 7}, {3, 20}, {70, 20}, {3, 60}}) {
    std::vector<f8_e4m3> w(kCodes * kRoom);
    for (int64_t n = 0; n < kCodes; ++n) w[static_cast<size_t>(n * kRoom + place)] = {static_cast<uint8_t>(n)};
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

}  // namespace
}  // namespace moegen
