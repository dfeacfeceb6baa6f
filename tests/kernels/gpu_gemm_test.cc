#include <array>
#include <cstring>

#include "base/checked.h"
#include "model/gpu_grouped_experts.h"
#include "tests/kernels/gpu_kernels_test.h"

namespace moegen {
namespace {

TEST_P(GpuKernelsTest, Gemm) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const auto& [m, n, k] : std::vector<std::array<int64_t, 3>>{{1, 1, 8}, {3, 40, 24}, {17, 96, 80}, {5, 7, 200}}) {
      const auto [x, xs] = random(dtype, static_cast<size_t>(m * (k + 8)));
      const auto [w, ws] = random(dtype, static_cast<size_t>(n * k), 0.3F);
      const std::vector<float> before(static_cast<size_t>(m * n), 0.5F);
      float* y = put(before);
      kernels.gemm(
          *device, stream,
          {.x = x, .w = w, .y = y, .dtype = dtype, .m = m, .n = n, .k = k, .x_stride = k + 8, .w_stride = k, .y_stride = n, .scale = 2, .add = true});
      std::vector<float> want(before);
      reference_kernels().gemm({.x = xs.data(),
                                .x_stride = k + 8,
                                .w = ws.data(),
                                .w_dtype = DType::f32,
                                .y = want.data(),
                                .y_stride = n,
                                .add = true,
                                .scale = 2,
                                .k = k},
                               {0, m}, {0, n});
      expect_near(get<float>(y, want.size()), want, 1e-4, "gemm");
    }
  }
}

// As latent attention's heads lie: one behind the other within the rows of x and y.
TEST_P(GpuKernelsTest, GemmOfHeads) {
  struct Heads {
    int64_t heads, m, n, k;
  };
  std::vector<Heads> cases{{5, 7, 40, 24}, {3, 1, 16, 32}};
  if (device->name() != "emulated") cases.insert(cases.end(), {{16, 1, 512, 128}, {16, 300, 512, 128}, {128, 64, 512, 128}, {128, 64, 128, 512}});
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const auto& [heads, m, n, k] : cases) {
      const auto [x, xs] = random(dtype, static_cast<size_t>(m * heads * k));
      const auto [w, ws] = random(dtype, static_cast<size_t>(heads * n * k), 0.1F);
      void* y = room(dtype, static_cast<size_t>(m * heads * n));
      kernels.gemm(*device, stream,
                   {.x = x,
                    .w = w,
                    .y = y,
                    .dtype = dtype,
                    .y_dtype = dtype,
                    .m = m,
                    .n = n,
                    .k = k,
                    .x_stride = heads * k,
                    .w_stride = k,
                    .y_stride = heads * n,
                    .batch = heads,
                    .x_step = k,
                    .w_step = n * k,
                    .y_step = n});
      std::vector<float> want(static_cast<size_t>(m * heads * n));
      for (int64_t h = 0; h < heads; ++h)
        reference_kernels().gemm({.x = xs.data() + h * k,
                                  .x_stride = heads * k,
                                  .w = ws.data() + h * n * k,
                                  .w_dtype = DType::f32,
                                  .y = want.data() + h * n,
                                  .y_stride = heads * n,
                                  .k = k},
                                 {0, m}, {0, n});
      expect_near(get_as_float(y, dtype, want.size()), want, tolerance(dtype) * std::sqrt(static_cast<double>(k)), "gemm of heads");
    }
  }
}

// A row's bits do not depend on the rows beside it: with the shapes of real models where they take no hours.
TEST_P(GpuKernelsTest, GemmRowsAreTheirOwn) {
  struct Shape {
    int64_t n, k, rows;
    DType y, x = DType::bf16;
  };
  std::vector<Shape> shapes{{64, 192, 40, DType::f32}, {40, 64, 33, DType::bf16}, {40, 64, 33, DType::f32, DType::f32}};
  if (device->name() != "emulated") {
    for (const DType y : {DType::f32, DType::bf16}) {
      for (const auto& [n, k] : std::vector<std::array<int64_t, 2>>{{768, 2048}, {2048, 768}, {14336, 4096}, {4096, 14336}, {576, 5120}, {1, 2048}})
        shapes.push_back({n, k, 4096, y});
    }
    shapes.push_back({151936, 2048, 129, DType::f32});
    shapes.push_back({768, 2048, 2100, DType::f32, DType::f32});
  }
  for (const auto& [n, k, all_rows, y_dtype, x_dtype] : shapes) {
    const void* x = random(x_dtype, static_cast<size_t>(all_rows * k)).first;
    const void* w = random(x_dtype, static_cast<size_t>(n * k)).first;
    const auto multiply = [&, n = n, k = k, y_dtype = y_dtype, x_dtype = x_dtype](int64_t first, int64_t rows) {
      void* y = room(y_dtype, static_cast<size_t>(rows * n));
      kernels.gemm(*device, stream,
                   {.x = static_cast<const std::byte*>(x) + static_cast<size_t>(first * k) * bytes_of(x_dtype),
                    .w = w,
                    .y = y,
                    .dtype = x_dtype,
                    .y_dtype = y_dtype,
                    .m = rows,
                    .n = n,
                    .k = k,
                    .x_stride = k,
                    .w_stride = k,
                    .y_stride = n});
      return get<std::byte>(static_cast<const std::byte*>(y), static_cast<size_t>(rows * n) * bytes_of(y_dtype));
    };
    const std::vector<std::byte> want = multiply(0, all_rows);
    const size_t row_bytes = static_cast<size_t>(n) * bytes_of(y_dtype);
    for (const int64_t rows : {1, 2, 7, 16, 31, 63, 64, 65, 129, 2048}) {
      if (rows > all_rows) break;
      const int64_t first = all_rows - rows;
      const std::vector<std::byte> have = multiply(first, rows);
      EXPECT_EQ(std::memcmp(have.data(), &want[static_cast<size_t>(first) * row_bytes], have.size()), 0) << rows << " rows of " << n << " x " << k;
    }
  }
}

// Every code of every type, as the reference expands it.
TEST_P(GpuKernelsTest, Expand) {
  constexpr int64_t kRows = 12, kCols = 256;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::f8_e4m3, DType::f4, DType::i4, DType::u8}) {
    std::vector<uint8_t> codes(kRows * kCols * 4), scales(kRows * kCols);
    for (size_t i = 0; i < codes.size(); ++i)
      codes[i] = static_cast<uint8_t>(dtype == DType::f8_e4m3 ? (i % 256 == 127 || i % 256 == 255 ? 0 : i) : i * 7 % 251 % 120);
    for (uint8_t& s : scales) s = static_cast<uint8_t>(60 + rng() % 4);
    std::vector<float> f8_scales{0.5F, 0.125F, 2, 0.25F};
    const bool has_zeros = dtype == DType::u8;
    const std::vector<uint8_t> zeros(scales.begin(), scales.end());
    const void* host_scales = dtype == DType::f8_e4m3 ? static_cast<const void*>(f8_scales.data()) : scales.data();
    const void* device_scales = dtype == DType::f8_e4m3 ? static_cast<const void*>(put(f8_scales)) : put(scales);
    for (const auto& [first, step] : std::vector<std::pair<int64_t, int64_t>>{{0, 1}, {1, 2}}) {
      const int64_t rows = kRows / step;
      void* y = room(DType::bf16, static_cast<size_t>(rows * kCols));
      kernels.expand(*device, stream,
                     {.w = put(codes),
                      .w_dtype = dtype,
                      .scales = device_scales,
                      .zeros = has_zeros ? put(zeros) : nullptr,
                      .group = 64,
                      .block_rows = 128,
                      .matrix_rows = kRows,
                      .first = first,
                      .step = step,
                      .rows = rows,
                      .cols = kCols,
                      .y = y});
      // Rows of the identity times the weights are the weights.
      std::vector<bf16> one(kCols);
      std::vector<float> want(static_cast<size_t>(rows * kCols));
      for (int64_t k = 0; k < kCols; ++k) {
        std::fill(one.begin(), one.end(), bf16{0});
        one[static_cast<size_t>(k)] = to_bf16(1);
        std::vector<float> column(static_cast<size_t>(rows));
        reference_kernels().gemm({.x = one.data(),
                                  .x_dtype = DType::bf16,
                                  .x_stride = kCols,
                                  .w = codes.data(),
                                  .w_dtype = dtype,
                                  .w_scales = host_scales,
                                  .w_zeros = has_zeros ? zeros.data() : nullptr,
                                  .w_group = 64,
                                  .w_block_rows = 128,
                                  .w_first = first,
                                  .w_step = step,
                                  .y = column.data(),
                                  .y_stride = rows,
                                  .k = kCols},
                                 {0, 1}, {0, rows});
        for (int64_t r = 0; r < rows; ++r) want[static_cast<size_t>(r * kCols + k)] = to_float(to_bf16(column[static_cast<size_t>(r)]));
      }
      EXPECT_EQ(get_as_float(y, DType::bf16, want.size()), want) << name_of(dtype) << " from " << first;
    }
  }
}

// Experts of some rows each, one of them without weights, in ranges of the sorted rows, and one alone: against the same in floats, with weights as
// expand() widens them.
TEST_P(GpuKernelsTest, GroupedGemm) {
  struct Case {
    std::vector<int32_t> counts;
    int64_t hidden, width;
  };
  const std::vector<Case> cases{{{3, 0, 70, 1, 16, 5}, 64, 40}, {std::vector<int32_t>(37, 2), 32, 8}, {{130, 4}, 128, 144}};
  for (const DType dtype : {DType::bf16, DType::f16, DType::f8_e4m3, DType::f4, DType::i4, DType::u8}) {
    for (const Case& c : cases) {
      const auto experts = static_cast<int>(c.counts.size());
      const int missing = experts > 3 ? experts / 2 : -1;
      const bool is_f8 = dtype == DType::f8_e4m3, half = dtype == DType::f4 || dtype == DType::i4, wide = dtype == DType::bf16 || dtype == DType::f16;
      std::vector<int32_t> begin{0}, picked;
      for (const int32_t n : c.counts) begin.push_back(begin.back() + n);
      const int64_t rows = begin.back(), tokens = rows / 2 + 1;
      for (int64_t i = 0; i < rows; ++i) picked.push_back(static_cast<int32_t>(rng() % static_cast<uint64_t>(tokens)));
      const auto [x, xs] = random(DType::bf16, static_cast<size_t>(tokens * c.hidden));
      const auto [activated, activations] = random(DType::bf16, static_cast<size_t>(rows * c.width));
      constexpr int64_t kGroup = 8;
      const auto format = [&](int64_t n, int64_t k, int64_t first, int64_t step) {
        return GpuExpand{.w_dtype = dtype,
                         .group = dtype == DType::f4 ? kF4Block : kGroup,
                         .block_rows = 16,
                         .matrix_rows = n * step,
                         .first = first,
                         .step = step,
                         .rows = n,
                         .cols = k};
      };
      // Gate and up share a matrix, row by row.
      const GpuExpand formats[] = {format(c.width, c.hidden, 0, 2), format(c.width, c.hidden, 1, 2), format(c.hidden, c.width, 0, 1)};
      if (dtype == DType::f4 && c.width % kF4Block != 0) continue;
      std::vector<GpuExpertWeights> table(static_cast<size_t>(experts));
      std::vector<std::array<std::vector<float>, 3>> weights(table.size());
      std::vector<std::array<std::vector<float>, 3>> biases(table.size());
      for (int e = 0; e < experts; ++e) {
        if (e == missing) continue;
        auto& of = table[static_cast<size_t>(e)];
        for (const int j : {0, 2}) {
          const GpuExpand& f = formats[j];
          const auto count = static_cast<size_t>(f.matrix_rows * f.cols);
          std::vector<uint8_t> codes(wide ? 2 * count : half ? count / 2 : count), scales(2 * count), zeros(count);
          for (uint8_t& code : codes) code = static_cast<uint8_t>(is_f8 ? rng() % 120 / 2 + (rng() % 2) * 128 : rng());
          if (wide) {
            for (size_t i = 0; i < count; ++i) {  // around 1
              codes[2 * i + 1] = static_cast<uint8_t>((rng() % 2) * 128 + (dtype == DType::bf16 ? 62 : 56));
            }
          }
          for (uint8_t& scale : scales) scale = static_cast<uint8_t>(dtype == DType::f4 ? 120 + rng() % 4 : 61);  // of bf16: 0.03 or so
          for (uint8_t& zero : zeros) zero = static_cast<uint8_t>(rng() % 16);
          std::vector<float> f8_scales(count);
          for (float& scale : f8_scales) scale = 0.01F * static_cast<float>(rng() % 8);
          GpuExpertWeights::Matrix m{put(codes),
                                     wide    ? nullptr
                                     : is_f8 ? static_cast<const void*>(put(f8_scales))
                                             : put(scales),
                                     dtype == DType::u8 ? put(zeros) : nullptr, nullptr};
          for (int part = j; part < (j == 0 ? 2 : 3); ++part) {
            const auto [bias, floats] = random(DType::f32, static_cast<size_t>(formats[part].rows));
            m.bias = e % 2 == 0 ? bias : nullptr;
            biases[static_cast<size_t>(e)][static_cast<size_t>(part)] = e % 2 == 0 ? floats : std::vector<float>(floats.size());
            (part == 0 ? of.gate : part == 1 ? of.up : of.down) = m;
            GpuExpand expand = formats[part];
            expand.w = m.w;
            expand.scales = m.scales;
            expand.zeros = m.zeros;
            const auto size = static_cast<size_t>(expand.rows * expand.cols);
            expand.y = room(DType::bf16, size);
            kernels.expand(*device, stream, expand);
            weights[static_cast<size_t>(e)][static_cast<size_t>(part)] = get_as_float(expand.y, DType::bf16, size);
          }
        }
      }
      const auto dot = [&](int e, int part, const float* row, int64_t n) {
        const int64_t k = formats[part].cols;
        const float* w = weights[static_cast<size_t>(e)][static_cast<size_t>(part)].data() + n * k;
        double sum = static_cast<double>(biases[static_cast<size_t>(e)][static_cast<size_t>(part)][static_cast<size_t>(n)]);
        for (int64_t i = 0; i < k; ++i) sum += static_cast<double>(row[i]) * static_cast<double>(w[i]);
        return static_cast<float>(sum);
      };
      for (const bool gated : {true, false}) {
        const int64_t width = gated ? c.width : c.hidden, depth = gated ? c.hidden : c.width;
        GpuGroupedGemm op{.x = gated ? x : activated,
                          .x_stride = depth,
                          .picked = gated ? put(picked) : nullptr,
                          .x_rows = tokens,
                          .expert_begin = put(begin),
                          .table = put(table),
                          .num_experts = experts,
                          .gated = gated,
                          .format = {gated ? formats[0] : formats[2], formats[1]},
                          .bias_dtype = DType::f32,
                          .y = room(DType::bf16, static_cast<size_t>(rows * width)),
                          .y_stride = width};
        std::vector<float> all(static_cast<size_t>(rows * width));
        const auto run = [&](int64_t first, int64_t last) {
          op.first = first;
          op.last = last;
          op.num_tiles = op.table != nullptr ? gpu_group_tiles(begin, {first, last}) : ceil_div<int64_t>(last - first, kGpuGroupRows);
          if (!gated) op.x = static_cast<const bf16*>(activated) + first * depth;
          kernels.grouped_gemm(*device, stream, op);
          return get_as_float(op.y, DType::bf16, static_cast<size_t>((last - first) * width));
        };
        const std::vector<float> have = run(0, rows);
        for (int64_t r = 0; r < rows; ++r) {
          const int e = static_cast<int>(std::upper_bound(begin.begin(), begin.end(), r) - begin.begin()) - 1;
          if (e == missing) continue;
          const float* row = gated ? xs.data() + picked[static_cast<size_t>(r)] * depth : activations.data() + r * depth;
          for (int64_t n = 0; n < width; ++n) {
            float want = dot(e, gated ? 0 : 2, row, n);
            if (gated) {
              const float up = dot(e, 1, row, n);
              reference_kernels().silu_mul(&want, &up, DType::f32, 1);
            }
            const float h = have[static_cast<size_t>(r * width + n)];
            ASSERT_NEAR(h, want, kBf16 * std::max(1.0F, std::abs(want))) << name_of(dtype) << " row " << r << " column " << n << " of " << experts;
          }
        }
        // Ranges, and an expert alone, have the same bits.
        const auto expect_same = [&](const std::vector<float>& part, int64_t first, const char* what) {
          for (size_t i = 0; i < part.size(); ++i) {
            const auto at = static_cast<size_t>(first * width) + i;
            const int e = static_cast<int>(std::upper_bound(begin.begin(), begin.end(), static_cast<int64_t>(at) / width) - begin.begin()) - 1;
            ASSERT_TRUE(e == missing || part[i] == have[at]) << what << ", element " << at;
          }
        };
        expect_same(run(rows / 3, rows - 1), rows / 3, "a range");
        op.table = nullptr;
        op.num_experts = 0;
        op.expert_begin = nullptr;
        op.one = table[0];
        expect_same(run(0, begin[1]), 0, "one expert");
      }
    }
  }
}

}  // namespace
}  // namespace moegen
