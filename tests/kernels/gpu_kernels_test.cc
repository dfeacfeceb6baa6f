// The ops of a GPU against the plain reference, over random and awkward shapes: on the emulation, whose threads run in three orders, and on a GPU
// where there is one. Tolerances as in kernels_test.h: sums are floats in some order, what is stored as bfloat16 adds half a unit of its eight bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

#include "base/checked.h"
#include "kernels/functions.h"
#include "kernels/gpu_functions.h"
#include "model/gpu_grouped_experts.h"
#include "model/router.h"
#include "tests/support/devices.h"

namespace moegen {
namespace {

std::vector<testing::TestDevice> devices() {
  std::vector<testing::TestDevice> out;
  for (uint64_t seed = 3; seed <= 5; ++seed)  // threads of a block forwards, backwards, shuffled
    out.push_back({fmt::format("emulated{}", seed), [seed] { return testing::emulated_device({.seed = seed}); }});
  if (!find_gpus().gpus.empty()) out.push_back({"gpu", [] { return open_gpu(0); }});
  return out;
}

class GpuKernelsTest : public ::testing::TestWithParam<testing::TestDevice> {
 protected:
  ~GpuKernelsTest() override {
    device->synchronize(stream);
    buffers_.clear();
  }

  /// The elements, in device memory.
  template <typename T>
  T* put(const std::vector<T>& values) {
    const size_t bytes = std::max<size_t>(1, values.size() * sizeof(T));
    buffers_.push_back(device->new_buffer(bytes));
    void* to = buffers_.back().handle();
    if (!values.empty()) device->copy_to_device(stream, to, values.data(), values.size() * sizeof(T));
    device->synchronize(stream);
    return static_cast<T*>(to);
  }
  template <typename T>
  std::vector<T> get(const void* from, size_t count) {
    std::vector<T> out(count);
    device->copy_to_host(stream, out.data(), from, count * sizeof(T));
    device->synchronize(stream);
    return out;
  }
  std::vector<float> get_as_float(const void* from, DType dtype, size_t count) {
    if (dtype == DType::f32) return get<float>(from, count);
    std::vector<float> out;
    for (const bf16 x : get<bf16>(from, count)) out.push_back(to_float(x));
    return out;
  }
  /// Random values of that type, in device memory and as floats.
  std::pair<const void*, std::vector<float>> random(DType dtype, size_t count, float deviation = 1) {
    std::normal_distribution<float> normal(0, deviation);
    std::vector<float> values(count);
    for (float& x : values) x = normal(rng);
    if (dtype == DType::f32) return {put(values), values};
    std::vector<bf16> halves;
    for (float& x : values) {
      halves.push_back(to_bf16(x));
      x = to_float(halves.back());
    }
    return {put(halves), values};
  }
  void* room(DType dtype, size_t count) {
    return dtype == DType::f32 ? static_cast<void*>(put(std::vector<float>(count))) : put(std::vector<bf16>(count));
  }

  static void expect_near(const std::vector<float>& have, const std::vector<float>& want, double tolerance, const std::string& what) {
    ASSERT_EQ(have.size(), want.size());
    for (size_t i = 0; i < have.size(); ++i) {
      const auto w = static_cast<double>(want[i]);
      ASSERT_NEAR(static_cast<double>(have[i]), w, tolerance * std::max(1.0, std::abs(w))) << what << ", element " << i;
    }
  }

  std::mt19937 rng{7};
  const std::unique_ptr<Device> device = GetParam().open();
  const Stream stream = device->new_stream(false);
  const GpuKernels& kernels = device->kernels();

 private:
  std::vector<DeviceBuffer> buffers_;
};
INSTANTIATE_TEST_SUITE_P(Devices, GpuKernelsTest, ::testing::ValuesIn(devices()), [](const auto& d) { return d.param.name; });

constexpr double kBf16 = 0x1p-8;
uint32_t bits(float x) { return std::bit_cast<uint32_t>(x); }
double tolerance(DType dtype) { return dtype == DType::f32 ? 3e-5 : kBf16; }

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

TEST_P(GpuKernelsTest, Norm) {
  for (const DType out : {DType::f32, DType::bf16}) {
    for (const int64_t width : {1, 31, 128, 300}) {
      const auto [x, xs] = random(DType::f32, static_cast<size_t>(5 * width));
      const auto [w, ws] = random(DType::bf16, static_cast<size_t>(width));
      void* y = room(out, static_cast<size_t>(4 * width));
      const int32_t* picked = put(std::vector<int32_t>{3, 0, 4, 4});
      kernels.norm(*device, stream,
                   {.x = static_cast<const float*>(x),
                    .x_stride = width,
                    .x_rows = 5,
                    .picked = picked,
                    .weight = w,
                    .y = y,
                    .y_dtype = out,
                    .y_stride = width,
                    .rows = 4,
                    .width = width,
                    .eps = 1e-5F,
                    .offset = 1});
      std::vector<float> want;
      for (const int64_t row : {3, 0, 4, 4}) {
        std::vector<float> one(static_cast<size_t>(width));
        reference_kernels().rms_norm({.x = xs.data() + row * width,
                                      .x_stride = width,
                                      .weight = ws.data(),
                                      .weight_dtype = DType::f32,
                                      .y = one.data(),
                                      .y_stride = width,
                                      .width = width,
                                      .eps = 1e-5F,
                                      .offset = 1},
                                     {0, 1});
        want.insert(want.end(), one.begin(), one.end());
      }
      expect_near(get_as_float(y, out, want.size()), want, tolerance(out), "norm");
    }
  }
}

// As the reference has it in doubles; far from zero too, where squares less the mean's square would be nothing but rounding.
TEST_P(GpuKernelsTest, LayerNorm) {
  for (const DType out : {DType::f32, DType::bf16}) {
    for (const auto& [width, offset] : std::vector<std::pair<int64_t, float>>{{1, 0.F}, {31, 5.F}, {128, -40.F}, {300, 0.F}}) {
      auto [unused, xs] = random(DType::f32, static_cast<size_t>(3 * width));
      for (float& x : xs) x += offset;
      const auto [w, ws] = random(DType::bf16, static_cast<size_t>(width));
      const auto [b, bs] = random(DType::f32, static_cast<size_t>(width));
      void* y = room(out, static_cast<size_t>(3 * width));
      kernels.norm(*device, stream,
                   {.x = put(xs),
                    .x_stride = width,
                    .weight = w,
                    .bias = b,
                    .bias_dtype = DType::f32,
                    .y = y,
                    .y_dtype = out,
                    .y_stride = width,
                    .rows = 3,
                    .width = width,
                    .eps = 1e-5F});
      std::vector<float> want;
      for (auto x = xs.begin(); x != xs.end(); x += width) {
        const double mean = std::accumulate(x, x + width, 0.0) / static_cast<double>(width);
        const double squares = std::accumulate(x, x + width, 0.0, [&](double sum, float v) { return sum + (v - mean) * (v - mean); });
        const double factor = 1 / std::sqrt(squares / static_cast<double>(width) + 1e-5);
        for (int64_t i = 0; i < width; ++i) {
          const auto k = static_cast<size_t>(i);
          want.push_back(static_cast<float>((x[i] - mean) * factor * static_cast<double>(ws[k]) + static_cast<double>(bs[k])));
        }
      }
      expect_near(get_as_float(y, out, want.size()), want, tolerance(out), "LayerNorm");
    }
  }
}

// What branches need: rows in place, or added to others and scaled, with x in any type.
TEST_P(GpuKernelsTest, NormInPlaceAndAdded) {
  constexpr int64_t kRows = 3, kWidth = 200;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const auto [x, xs] = random(dtype, kRows * kWidth);
    const auto [w, ws] = random(DType::bf16, kWidth);
    std::vector<float> normed(xs.size());
    reference_kernels().rms_norm({.x = xs.data(),
                                  .x_stride = kWidth,
                                  .weight = ws.data(),
                                  .weight_dtype = DType::f32,
                                  .y = normed.data(),
                                  .y_stride = kWidth,
                                  .width = kWidth,
                                  .eps = 1e-5F},
                                 {0, kRows});
    GpuNorm op{.x = x, .x_dtype = dtype, .x_stride = kWidth, .weight = w, .y_stride = kWidth, .rows = kRows, .width = kWidth, .eps = 1e-5F};
    const auto [before, befores] = random(DType::f32, xs.size());
    op.y = const_cast<void*>(before);
    op.y_dtype = DType::f32;
    op.add = true;
    op.scale = put(std::vector<bf16>{to_bf16(0.75F)});
    kernels.norm(*device, stream, op);
    std::vector<float> want(normed);
    for (size_t i = 0; i < want.size(); ++i) want[i] = 0.75F * (befores[i] + want[i]);
    expect_near(get<float>(before, want.size()), want, tolerance(DType::f32), "added");
    op.y = const_cast<void*>(x);
    op.y_dtype = dtype;
    op.add = false;
    op.scale = nullptr;
    kernels.norm(*device, stream, op);
    expect_near(get_as_float(x, dtype, normed.size()), normed, tolerance(dtype), "in place");
  }
}

TEST_P(GpuKernelsTest, Gate) {
  constexpr int kRows = 3, kHeads = 3, kDim = 100, kWidth = kHeads * kDim, kStride = 2 * kWidth + 40;
  const auto [gates, gates_host] = random(DType::f32, kRows * kStride, 3);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const auto [x, xs] = random(dtype, kRows * kWidth);
    kernels.gate(*device, stream,
                 {.x = const_cast<void*>(x),
                  .act = dtype,
                  .gate = static_cast<const float*>(gates) + kDim,
                  .gate_stride = kStride,
                  .gate_step = 2 * kDim,
                  .rows = kRows,
                  .heads = kHeads,
                  .head_dim = kDim});
    std::vector<float> want(xs);
    for (int row = 0; row < kRows; ++row) {
      for (int h = 0; h < kHeads; ++h) {
        for (int d = 0; d < kDim; ++d)
          want[static_cast<size_t>(row * kWidth + h * kDim + d)] /=
              1 + std::exp(-gates_host[static_cast<size_t>(row * kStride + (2 * h + 1) * kDim + d)]);
      }
    }
    expect_near(get_as_float(x, dtype, want.size()), want, tolerance(dtype), "gate");
  }
}

TEST_P(GpuKernelsTest, Cap) {
  auto [x, want] = random(DType::f32, 3 * 300, 20);
  kernels.cap(*device, stream, {.x = static_cast<float*>(const_cast<void*>(x)), .rows = 3, .width = 300, .cap = 8});
  for (float& one : want) one = 8 * static_cast<float>(std::tanh(static_cast<double>(one) / 8));
  expect_near(get<float>(x, want.size()), want, 1e-6, "cap");
}

TEST_P(GpuKernelsTest, AddRows) {
  constexpr int64_t kAll = 9, kWidth = 300;
  const std::vector<int32_t> picked{7, 0, 7, 8};
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const auto [x, xs] = random(dtype, kAll * kWidth);
    auto* y = put(std::vector<float>(picked.size() * kWidth, 2));
    kernels.add_rows(*device, stream, {.x = x, .dtype = dtype, .all_rows = kAll, .picked = put(picked), .y = y, .rows = 4, .width = kWidth});
    std::vector<float> want;
    for (const int32_t row : picked) {
      for (int64_t i = 0; i < kWidth; ++i) want.push_back(2 + xs[static_cast<size_t>(row * kWidth + i)]);
    }
    EXPECT_EQ(get<float>(y, want.size()), want);
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

TEST_P(GpuKernelsTest, Activate) {
  using Kind = GpuActivate::Kind;
  const auto [gate, gates] = random(DType::f32, 7 * 300, 2);
  const auto [up, ups] = random(DType::f32, 7 * 300, 2);
  for (const Kind kind : {Kind::silu, Kind::clamped_silu, Kind::gelu, Kind::relu}) {
    void* y = room(DType::f32, 7 * 300);
    kernels.activate(*device, stream,
                     {.kind = kind,
                      .gate = static_cast<const float*>(gate),
                      .up = kind == Kind::relu ? nullptr : static_cast<const float*>(up),
                      .clamp = 1.5F,
                      .out = y,
                      .out_dtype = DType::f32,
                      .rows = 7,
                      .width = 300});
    std::vector<float> want = gates;
    if (kind == Kind::silu) reference_kernels().silu_mul(want.data(), ups.data(), DType::f32, 7 * 300);
    if (kind == Kind::clamped_silu) reference_kernels().clamped_swiglu(want.data(), ups.data(), 1.5F, 7 * 300);
    if (kind == Kind::gelu) reference_kernels().gelu_mul(want.data(), ups.data(), 7 * 300);
    if (kind == Kind::relu) std::for_each(want.begin(), want.end(), [](float& x) { x = std::max(x, 0.0F); });
    expect_near(get<float>(y, want.size()), want, 1e-5, "activate " + std::to_string(static_cast<int>(kind)));
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

// Sorting, gathering and the weighted sum back.
TEST_P(GpuKernelsTest, SortGatherCombine) {
  for (const auto& [tokens, experts, k, width] : std::vector<std::array<int, 4>>{{1, 2, 1, 4}, {200, 6, 3, 10}, {65, 300, 8, 3}}) {
    std::vector<int32_t> chosen;
    for (int t = 0; t < tokens; ++t) {
      for (int j = 0; j < k; ++j)
        chosen.push_back(static_cast<int32_t>((rng() % static_cast<unsigned>(experts) + static_cast<unsigned>(j)) % static_cast<unsigned>(experts)));
    }
    const auto n = static_cast<size_t>(tokens * k);
    auto* begin = put(std::vector<int32_t>(static_cast<size_t>(experts + 1)));
    auto* row_of = put(std::vector<int32_t>(n));
    auto* row_token = put(std::vector<int32_t>(n));
    auto* row_weight = put(std::vector<float>(n));
    const auto [weight, weights] = random(DType::f32, n);
    kernels.sort(*device, stream,
                 {.chosen = put(chosen),
                  .tokens = tokens,
                  .num_experts = experts,
                  .top_k = k,
                  .counts = put(std::vector<int32_t>(static_cast<size_t>(ceil_div<int64_t>(tokens, kGpuSortTokens) * experts))),
                  .expert_begin = begin,
                  .row_of = row_of,
                  .row_token = row_token,
                  .weight = static_cast<const float*>(weight),
                  .row_weight = row_weight});
    std::vector<int32_t> order(n);
    for (size_t i = 0; i < n; ++i) order[i] = static_cast<int32_t>(i);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return chosen[static_cast<size_t>(a)] < chosen[static_cast<size_t>(b)]; });
    const auto have_weight = get<float>(row_weight, n);
    const auto have_token = get<int32_t>(row_token, n), have_row = get<int32_t>(row_of, n),
               have_begin = get<int32_t>(begin, static_cast<size_t>(experts + 1));
    for (size_t r = 0; r < n; ++r) {
      ASSERT_EQ(have_token[r], order[r] / k);
      ASSERT_EQ(have_row[static_cast<size_t>(order[r])], static_cast<int32_t>(r));
      ASSERT_EQ(have_weight[r], weights[static_cast<size_t>(order[r])]);
    }
    for (int e = 0; e <= experts; ++e)
      EXPECT_EQ(have_begin[static_cast<size_t>(e)], std::count_if(chosen.begin(), chosen.end(), [&, e = e](int32_t c) { return c < e; }));
    const auto [x, xs] = random(DType::bf16, static_cast<size_t>(tokens * width));
    void* rows = room(DType::bf16, n * static_cast<size_t>(width));
    kernels.move(
        *device, stream,
        {.x = x, .x_stride = width, .picked = row_token, .y = rows, .y_stride = width, .rows = tokens * k, .width = width, .all_rows = tokens});
    auto* hidden = put(std::vector<float>(static_cast<size_t>(tokens * width), 1));
    kernels.combine(*device, stream,
                    {.hidden = hidden,
                     .tokens = tokens,
                     .width = width,
                     .out = rows,
                     .row_of = row_of,
                     .weight = static_cast<const float*>(weight),
                     .top_k = k,
                     .scale = 0.5F});
    std::vector<float> want;
    for (int t = 0; t < tokens; ++t) {
      float sum = 0;
      for (int j = 0; j < k; ++j) sum += 0.5F * weights[static_cast<size_t>(t * k + j)];
      for (int d = 0; d < width; ++d) want.push_back(1 + sum * xs[static_cast<size_t>(t * width + d)]);
    }
    expect_near(get<float>(hidden, want.size()), want, 1e-4, "combine");
    // Weighed before they are gathered, and added up as they are: the same.
    void* weighed = room(DType::f32, n * static_cast<size_t>(width));
    kernels.move(*device, stream,
                 {.x = put(xs),
                  .x_stride = width,
                  .picked = row_token,
                  .y = weighed,
                  .y_stride = width,
                  .rows = tokens * k,
                  .width = width,
                  .all_rows = tokens,
                  .dtype = DType::f32,
                  .scale = row_weight});
    auto* other = put(std::vector<float>(static_cast<size_t>(tokens * width), 1));
    kernels.combine(
        *device, stream,
        {.hidden = other, .tokens = tokens, .width = width, .out = weighed, .act = DType::f32, .row_of = row_of, .top_k = k, .scale = 0.5F});
    expect_near(get<float>(other, want.size()), want, 1e-4, "combine what was weighed before");
  }
}

// Picked rows to a place of their own, with other strides, and back to where they were: the rest stays as it is.
TEST_P(GpuKernelsTest, MoveThereAndBack) {
  constexpr int64_t kAll = 9, kWidth = 5, kStride = 7, kOwnStride = 6;
  const std::vector<int32_t> picked{7, 0, 3, 8};
  const auto n = static_cast<int64_t>(picked.size());
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const auto [x, xs] = random(dtype, kAll * kStride);
    void* own = room(dtype, static_cast<size_t>(n * kOwnStride));
    void* y = room(dtype, kAll * kStride);
    const int32_t* rows = put(picked);
    kernels.move(*device, stream,
                 {.x = x,
                  .x_stride = kStride,
                  .picked = rows,
                  .y = own,
                  .y_stride = kOwnStride,
                  .rows = n,
                  .width = kWidth,
                  .all_rows = kAll,
                  .dtype = dtype});
    kernels.move(*device, stream,
                 {.x = own,
                  .x_stride = kOwnStride,
                  .picked = rows,
                  .y = y,
                  .y_stride = kStride,
                  .rows = n,
                  .width = kWidth,
                  .all_rows = kAll,
                  .scatter = true,
                  .dtype = dtype});
    std::vector<float> want(kAll * kStride);
    for (const int32_t row : picked) {
      for (int64_t i = 0; i < kWidth; ++i) want[static_cast<size_t>(row * kStride + i)] = xs[static_cast<size_t>(row * kStride + i)];
    }
    EXPECT_EQ(get_as_float(y, dtype, want.size()), want);
  }
}

TEST_P(GpuKernelsTest, Route) {
  struct Case {
    int experts, k, groups, top_groups, group_best;
    bool sigmoid, bias, renormalize, mixer = false, scales = false;
  };
  for (const Case& c : std::vector<Case>{{8, 2, 1, 1, 1, false, false, true},
                                         {128, 8, 1, 1, 1, false, false, true},
                                         {60, 4, 1, 1, 1, false, true, false},
                                         {256, 8, 8, 4, 2, true, true, true},
                                         {16, 3, 4, 2, 1, false, false, false},
                                         {33, 5, 1, 1, 1, true, false, true},
                                         {2, 2, 1, 1, 1, false, false, false, true},
                                         {16, 2, 1, 1, 1, false, false, false, true},
                                         {70, 4, 1, 1, 1, false, false, false, true},
                                         {40, 6, 1, 1, 1, false, false, true, false, true}}) {
    constexpr int kTokens = 21;
    MlpSpec mlp;
    mlp.num_experts = c.experts;
    mlp.top_k = c.k;
    mlp.router.scores = c.mixer ? RouterSpec::Scores::sparse_mixer : c.sigmoid ? RouterSpec::Scores::sigmoid : RouterSpec::Scores::softmax;
    mlp.router.jitter = 0.2F;
    mlp.router.num_groups = c.groups;
    mlp.router.top_groups = c.top_groups;
    mlp.router.group_best = c.group_best;
    mlp.router.renormalize = c.renormalize;
    mlp.router.scaling = c.mixer ? 1 : 2.5F;
    auto [logits, host] = random(DType::f32, static_cast<size_t>(kTokens * c.experts));
    const auto [scales, scales_host] = random(DType::bf16, static_cast<size_t>(c.experts));
    const auto [bias, biases] = random(DType::f32, static_cast<size_t>(c.experts), 0.01F);
    auto* chosen = put(std::vector<int32_t>(static_cast<size_t>(kTokens * c.k)));
    auto* weight = put(std::vector<float>(static_cast<size_t>(kTokens * c.k)));
    kernels.route(*device, stream,
                  {.logits = static_cast<float*>(const_cast<void*>(logits)),
                   .tokens = kTokens,
                   .num_experts = c.experts,
                   .top_k = c.k,
                   .scores = c.mixer     ? GpuRoute::Scores::sparse_mixer
                             : c.sigmoid ? GpuRoute::Scores::sigmoid
                                         : GpuRoute::Scores::softmax,
                   .jitter = 0.2F,
                   .bias = c.bias ? bias : nullptr,
                   .num_groups = c.groups,
                   .top_groups = c.top_groups,
                   .group_best = c.group_best,
                   .renormalize = c.renormalize,
                   .scaling = mlp.router.scaling,
                   .expert_scales = c.scales ? scales : nullptr,
                   .expert_scales_dtype = DType::bf16,
                   .chosen = chosen,
                   .weight = weight});
    const auto have = get<int32_t>(chosen, static_cast<size_t>(kTokens * c.k));
    const auto have_weight = get<float>(weight, have.size());
    for (int t = 0; t < kTokens; ++t) {
      std::vector<int32_t> want(static_cast<size_t>(c.k));
      std::vector<float> weights(static_cast<size_t>(c.k));
      choose_experts(reference_kernels(), mlp, host.data() + t * c.experts, c.bias ? biases.data() : nullptr, want.data(), weights.data());
      for (int j = 0; c.scales && j < c.k; ++j) weights[static_cast<size_t>(j)] *= scales_host[static_cast<size_t>(want[static_cast<size_t>(j)])];
      for (int j = 0; j < c.k; ++j) {
        ASSERT_EQ(have[static_cast<size_t>(t * c.k + j)], want[static_cast<size_t>(j)]) << c.experts << " experts, token " << t;
        ASSERT_NEAR(have_weight[static_cast<size_t>(t * c.k + j)], weights[static_cast<size_t>(j)],
                    1e-5F * std::abs(weights[static_cast<size_t>(j)]) + 1e-7F);
      }
    }
  }
}

// Equal scores: the lower index; a NaN: any experts, and an end.
TEST_P(GpuKernelsTest, RouteTiesAndNaNs) {
  std::vector<float> logits(3 * 40, 1);
  std::fill_n(logits.begin() + 40, 40, std::numeric_limits<float>::quiet_NaN());
  auto* chosen = put(std::vector<int32_t>(3 * 4));
  for (const auto scores : {GpuRoute::Scores::softmax, GpuRoute::Scores::sigmoid, GpuRoute::Scores::sparse_mixer}) {
    kernels.route(*device, stream,
                  {.logits = put(logits),
                   .tokens = 3,
                   .num_experts = 40,
                   .top_k = 4,
                   .scores = scores,
                   .chosen = chosen,
                   .weight = put(std::vector<float>(12))});
    for (const int32_t token : {0, 2}) {
      const auto have = get<int32_t>(chosen + token * 4, 4);
      EXPECT_EQ(have, (std::vector<int32_t>{0, 1, 2, 3}));
    }
    for (const int32_t e : get<int32_t>(chosen, 12)) EXPECT_TRUE(e >= 0 && e < 40);
  }
}

constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();

// Logits whose best are spread, equal, side by side, far apart, or no numbers.
std::vector<std::vector<float>> awkward_rows(int64_t width, std::mt19937& rng) {
  std::normal_distribution<float> normal(0, 4);
  std::vector<std::vector<float>> rows(14, std::vector<float>(static_cast<size_t>(width)));
  for (auto& row : rows) {
    for (float& x : row) x = normal(rng);
  }
  const auto each = [&](size_t row, const auto& f) {
    for (size_t i = 0; i < rows[row].size(); ++i) f(rows[row][i], i);
  };
  each(1, [&](float& x, size_t) { x = static_cast<float>(rng() % 50) - 60.0F; });
  each(2, [](float& x, size_t i) { x = i % 3 == 0 ? kNan : x; });
  each(3, [](float& x, size_t) { x = kNan; });
  each(4, [](float& x, size_t) { x = -kInf; });
  rows[5][rows[5].size() / 2] = kInf;
  each(6, [](float& x, size_t i) { x = i % 7 == 3 ? x : -kInf; });
  each(7, [](float& x, size_t) { x = 1.5F; });
  each(8, [](float& x, size_t i) { x = static_cast<float>(i) * 0.01F; });
  each(9, [](float& x, size_t i) { x = i % kGpuSegmentIds == 5 ? x + 100 : x; });
  each(10, [&](float& x, size_t i) { x = i / 300 == 1 ? 50 : x; });
  each(11, [](float& x, size_t i) { x = i % 2 == 0 ? 0.0F : -0.0F; });
  each(12, [](float& x, size_t i) { x = i % 5 == 0 ? -6e37F : -kInf; });
  each(13, [](float& x, size_t i) { x = i % 400 == 7 ? 30 : i % 400 == 9 ? 31 : -1 - x * x; });
  return rows;
}

// What the sampler of the CPU would find.
void expect_summary(const std::vector<float>& row, const LogitQuery& q, const LogitSummary& have, const std::vector<LogitCandidate>& candidates) {
  const auto number = [](float x) { return std::isnan(x) ? -kInf : x; };
  std::vector<int32_t> ids(row.size());
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
  std::stable_sort(ids.begin(), ids.end(),
                   [&](int32_t a, int32_t b) { return number(row[static_cast<size_t>(a)]) > number(row[static_cast<size_t>(b)]); });
  const auto value = [&](int32_t id) { return row[static_cast<size_t>(id)]; };
  const float top = number(value(ids[0]));
  ASSERT_EQ(have.top, top);
  if (q.candidates) {
    for (size_t i = 0; i < std::min<size_t>(ids.size(), kLogitCandidates); ++i) {
      ASSERT_EQ(candidates[i].id, ids[i]) << i;
      ASSERT_EQ(bits(candidates[i].value), bits(value(ids[i]))) << i;
    }
  }
  if (!std::isfinite(top)) {
    if (q.id < 0) {
      EXPECT_LT(have.id, 0);
    }
    return;
  }
  std::vector<double> upto{0};
  double sum = 0;
  for (const float x : row) {
    sum += std::exp(static_cast<double>(number(x)) - static_cast<double>(top));
    const auto hot = [&](float v) { return static_cast<double>(v / q.temperature); };
    if (q.temperature > 0) upto.push_back(upto.back() + std::exp(hot(number(x)) - hot(top)));
  }
  if (q.logprob) {
    EXPECT_NEAR(static_cast<double>(have.sum), sum, 1e-6 * sum);
  }
  if (q.temperature > 0) {
    EXPECT_NEAR(static_cast<double>(have.heated_sum), upto.back(), 2e-6 * upto.back());
  }
  if (q.id == LogitQuery::kNoId) {
    EXPECT_LT(have.id, 0);
    return;
  }
  if (q.id == LogitQuery::kBest) {
    ASSERT_EQ(have.id, ids[0]);
  }
  if (q.id >= 0) {
    ASSERT_EQ(have.id, q.id);
  }
  ASSERT_TRUE(have.id >= 0 && have.id < static_cast<int32_t>(row.size()));
  if (q.id == LogitQuery::kDrawn) {
    EXPECT_TRUE(std::isfinite(value(have.id)));
    EXPECT_GT(upto[static_cast<size_t>(have.id) + 1], q.u * upto.back() - 2e-6 * upto.back());
    EXPECT_LE(upto[static_cast<size_t>(have.id)], q.u * upto.back() + 2e-6 * upto.back());
  }
  if (!q.logprob) return;
  EXPECT_EQ(bits(have.value), bits(value(have.id)));
  if (!std::isnan(have.value)) {
    EXPECT_EQ(have.rank, 1 + std::count_if(row.begin(), row.end(), [&](float x) { return x > have.value; }));
  }
}

TEST_P(GpuKernelsTest, Summarize) {
  std::uniform_real_distribution<double> uniform(0, 1);
  const LogitSummary untouched{.rank = 77};
  std::vector<int64_t> widths{1, 31, 127, 128, 129, 300, 1000, 50'257};
  if (device->name() != "emulated") widths.push_back(151'936);
  for (const int64_t width : widths) {
    const auto rows = awkward_rows(width, rng);
    for (int round = 0; round < (width > 1000 ? 1 : 6); ++round) {
      std::vector<float> logits;
      std::vector<LogitQuery> queries;
      for (const auto& row : rows) {
        logits.insert(logits.end(), row.begin(), row.end());
        LogitQuery q{.u = round == 1   ? 0
                          : round == 2 ? 0x1.fffffffffffffp-1
                                       : uniform(rng),
                     .logprob = rng() % 2 == 0,
                     .candidates = rng() % 4 != 0,
                     .whole = rng() % 8 == 0};
        q.id = std::array{LogitQuery::kNoId, LogitQuery::kBest, LogitQuery::kDrawn,
                          static_cast<int32_t>(rng() % static_cast<uint32_t>(width))}[rng() % 4];
        q.temperature = q.id == LogitQuery::kDrawn || rng() % 2 == 0 ? std::array{1.0F, 0.3F, 1.7F}[rng() % 3] : 0.0F;
        queries.push_back(q);
      }
      const size_t count = rows.size();
      GpuSummarize op{.logits = put(logits), .rows = static_cast<int64_t>(count), .width = width, .queries = put(queries)};
      op.segments = put(std::vector<GpuSegment>(count * static_cast<size_t>(op.segments_of_row())));
      op.summaries = put(std::vector<LogitSummary>(count, untouched));
      op.candidates = put(std::vector<LogitCandidate>(count * kLogitCandidates));
      kernels.summarize(*device, stream, op);
      const auto summaries = get<LogitSummary>(op.summaries, count);
      const auto candidates = get<LogitCandidate>(op.candidates, count * kLogitCandidates);
      for (size_t r = 0; r < count; ++r) {
        SCOPED_TRACE(fmt::format("row {} of {}, round {}", r, width, round));
        if (queries[r].whole) {
          EXPECT_EQ(summaries[r].rank, untouched.rank);
          continue;
        }
        const auto* own = candidates.data() + r * kLogitCandidates;
        expect_summary(rows[r], queries[r], summaries[r], {own, own + kLogitCandidates});
        // Alone it is the same.
        if (round > 0) continue;
        op.rows = 1;
        op.logits = put(rows[r]);
        op.queries = put(std::vector<LogitQuery>{queries[r]});
        kernels.summarize(*device, stream, op);
        EXPECT_EQ(std::memcmp(get<LogitSummary>(op.summaries, 1).data(), &summaries[r], sizeof(LogitSummary)), 0);
      }
    }
  }
}

struct Shape {
  int kv_heads, heads, head_dim, latent_dim;
  int window, chunk;
  bool sinks;
};

// Keys and values as place() stores them, against attention of the CPU's reference over the same pages.
TEST_P(GpuKernelsTest, Attention) {
  for (const DType act : {DType::f32, DType::bf16}) {
    for (const Shape& s : std::vector<Shape>{{2, 3, 16, 0, 0, 0, false},
                                             {1, 1, 128, 0, 0, 0, false},
                                             {2, 4, 32, 0, 24, 0, true},
                                             {1, 16, 64, 0, 0, 40, false},
                                             {1, 2, 256, 0, 0, 0, false},
                                             {1, 3, 512, 0, 0, 0, false},
                                             {1, 5, 40, 32, 0, 0, false},
                                             {1, 9, 576, 512, 0, 0, false}}) {
      const auto kv = [&](DType kv_dtype) {
        constexpr int64_t kLength = 300;
        const size_t head_bytes = s.latent_dim > 0 ? latent_page_bytes(kv_dtype, s.head_dim) : kv_head_bytes(kv_dtype, s.head_dim);
        const size_t page_bytes = head_bytes * static_cast<size_t>(s.kv_heads);
        constexpr int64_t kPages = kLength / kPageTokens + 1;
        std::vector<std::byte> pages(page_bytes * kPages);
        std::normal_distribution<float> normal(0, 1);
        std::vector<float> key(static_cast<size_t>(s.head_dim)), value(key);
        for (int64_t p = 0; p < kLength; ++p) {
          for (int h = 0; h < s.kv_heads; ++h) {
            std::byte* at = pages.data() + page_bytes * static_cast<size_t>(p / kPageTokens) + head_bytes * static_cast<size_t>(h);
            for (float& x : key) x = to_float(to_bf16(normal(rng)));
            for (float& x : value) x = to_float(to_bf16(normal(rng)));
            std::vector<bf16> half_key, half_value;
            for (const float x : key) half_key.push_back(to_bf16(x));
            for (const float x : value) half_value.push_back(to_bf16(x));
            if (s.latent_dim > 0) {
              kv_dtype == DType::f32 ? store_latent(key.data(), s.head_dim, p % kPageTokens, at)
                                     : store_latent(half_key.data(), s.head_dim, p % kPageTokens, at);
            } else if (kv_dtype == DType::i8) {
              store_kv<int8_t>(key.data(), value.data(), s.head_dim, p % kPageTokens, at);
            } else {
              kv_dtype == DType::f32 ? store_kv<float>(key.data(), value.data(), s.head_dim, p % kPageTokens, at)
                                     : store_kv<bf16>(half_key.data(), half_value.data(), s.head_dim, p % kPageTokens, at);
            }
          }
        }
        Attention op{.q_stride = s.kv_heads * s.heads * s.head_dim,
                     .dtype = act,
                     .kv_dtype = kv_dtype,
                     .kv_heads = s.kv_heads,
                     .heads = s.heads,
                     .head_dim = s.head_dim,
                     .latent_dim = s.latent_dim,
                     .pages = pages.data(),
                     .page_bytes = page_bytes,
                     .kv_head_bytes = head_bytes,
                     .window = s.window,
                     .chunk = s.chunk,
                     .scale = 0.2F};
        const int out_width = s.kv_heads * s.heads * op.value_dim();
        op.out_stride = out_width;
        // Generated tokens and chunks of prompts, in tiles of several sizes, of one sequence whose pages lie from slot 1 on.
        const std::vector<std::array<int32_t, 2>> chunks{{0, 1}, {3, 2}, {31, 2}, {60, 7}, {120, 40}, {299, 1}};
        std::vector<GpuTile> tiles;
        int32_t rows = 0, most = 1;
        for (const auto& [position, count] : chunks) {
          tiles.push_back({rows, count, position, 1});
          rows += count;
          most = std::max(most, count);
        }
        auto [q, qs] = random(act, static_cast<size_t>(rows * op.q_stride));
        const auto [sinks, host_sinks] = random(DType::f32, static_cast<size_t>(s.kv_heads * s.heads));
        std::vector<std::byte> staged(page_bytes);
        staged.insert(staged.end(), pages.begin(), pages.end());
        const auto want_size = static_cast<size_t>(rows * out_width);
        void* out = room(act, want_size);
        GpuAttention gpu_op{.q = q,
                            .out = out,
                            .act = act,
                            .kv_dtype = kv_dtype,
                            .rows = rows,
                            .tiles = put(tiles),
                            .num_tiles = static_cast<int64_t>(tiles.size()),
                            .max_count = most,
                            .kv_heads = s.kv_heads,
                            .heads = s.heads,
                            .head_dim = s.head_dim,
                            .latent_dim = s.latent_dim,
                            .slots = put(staged),
                            .slot_bytes = page_bytes,
                            .head_bytes = head_bytes,
                            .num_slots = kPages + 1,
                            .window = s.window,
                            .chunk = s.chunk,
                            .scale = 0.2F,
                            .sinks = s.sinks ? static_cast<const float*>(sinks) : nullptr};
        kernels.attention(*device, stream, gpu_op);
        const std::vector<float> have = get_as_float(out, act, want_size);
        // A query alone has the same bits.
        std::vector<GpuTile> singles;
        for (const GpuTile& tile : tiles) {
          for (int32_t i = 0; i < tile.count; ++i) singles.push_back({tile.row + i, 1, tile.position + i, tile.slot});
        }
        gpu_op.tiles = put(singles);
        gpu_op.num_tiles = rows;
        gpu_op.max_count = 1;
        kernels.attention(*device, stream, gpu_op);
        EXPECT_EQ(get_as_float(out, act, want_size), have);
        std::vector<int32_t> table(kPages);
        for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i);
        std::vector<float> want(want_size);
        std::vector<bf16> half_q, half_out(want.size());
        for (const float x : qs) half_q.push_back(to_bf16(x));
        for (const GpuTile& tile : tiles) {
          op.q = act == DType::f32 ? static_cast<const void*>(qs.data() + tile.row * op.q_stride) : half_q.data() + tile.row * op.q_stride;
          op.out = act == DType::f32 ? static_cast<void*>(want.data() + tile.row * out_width) : half_out.data() + tile.row * out_width;
          op.num_queries = tile.count;
          op.first_position = tile.position;
          op.page_table = table.data();
          op.sinks = s.sinks ? host_sinks.data() : nullptr;
          reference_kernels().attention(op);
        }
        for (size_t i = 0; act == DType::bf16 && i < want.size(); ++i) want[i] = to_float(half_out[i]);
        expect_near(have, want, act == DType::f32 ? 1e-4 : 2 * kBf16, fmt::format("head dim {}", s.head_dim));
      };
      kv(act);
      if (s.latent_dim == 0) kv(DType::i8);
    }
  }
}

struct PlaceCase {
  GpuPlace::Norm norm;
  bool weights, rope_first;
  int rope_dim;
  bool interleaved;
  float clip;
  float tuning = 0;
  bool k_is_v = false, v_norm = false;
  bool gated = false;  // something lies behind each head of q
};

// Norm, clip and rope of q, k and v, and where they are stored: as the CPU's steps do it with its reference kernels.
TEST_P(GpuKernelsTest, Place) {
  using Norm = GpuPlace::Norm;
  constexpr int kQ = 5, kKv = 2, kDim = 16, kRows = 6;
  for (const DType kv_dtype : {DType::f32, DType::i8}) {
    for (const PlaceCase& c : std::vector<PlaceCase>{{Norm::per_head, true, false, 16, false, 0},
                                                     {Norm::none, false, false, 8, true, 0.5F},
                                                     {Norm::none, false, false, 0, false, 0},
                                                     {Norm::whole, true, false, 16, false, 0},
                                                     {Norm::per_head, true, true, 12, false, 0},
                                                     {Norm::per_head, false, true, 16, true, 0},
                                                     {Norm::none, false, false, 0, false, 0, 0.5F},
                                                     {Norm::per_head, true, false, 16, false, 0, 0, true, true},
                                                     {Norm::whole, true, false, 8, false, 0.9F, 0, false, true},
                                                     {Norm::per_head, true, false, 8, false, 0, 0, false, false, true}}) {
      const int q_step = c.gated ? 2 * kDim : kDim, stride = kQ * q_step + 2 * kKv * kDim;
      const auto [qkv, host] = random(DType::f32, static_cast<size_t>(kRows * stride));
      const auto [q_norm, q_norm_host] = random(DType::f32, kQ * kDim);
      const auto [k_norm, k_norm_host] = random(DType::f32, kKv * kDim);
      const auto [cos, cos_host] = random(DType::f32, static_cast<size_t>(kRows * c.rope_dim / 2 + 1));
      const auto [sin, sin_host] = random(DType::f32, static_cast<size_t>(kRows * c.rope_dim / 2 + 1));
      std::vector<GpuRow> rows;
      for (int i = 0; i < kRows; ++i) rows.push_back({30 + i, 1, 36});
      const size_t head_bytes = kv_head_bytes(kv_dtype, kDim), slot_bytes = kKv * head_bytes;
      void* q = room(DType::f32, kRows * kQ * kDim);
      auto* slots = put(std::vector<std::byte>(3 * slot_bytes));
      kernels.place(*device, stream,
                    {.qkv = static_cast<const float*>(qkv),
                     .stride = stride,
                     .q_step = q_step,
                     .rows = kRows,
                     .row = put(rows),
                     .cos = static_cast<const float*>(cos),
                     .sin = static_cast<const float*>(sin),
                     .q_heads = kQ,
                     .kv_heads = kKv,
                     .head_dim = kDim,
                     .rope_dim = c.rope_dim,
                     .interleaved = c.interleaved,
                     .rope_first = c.rope_first,
                     .norm = c.norm,
                     .q_norm = c.weights ? q_norm : nullptr,
                     .k_norm = c.weights ? k_norm : nullptr,
                     .norm_dtype = DType::f32,
                     .eps = 1e-6F,
                     .offset = c.weights ? 0.5F : 0,
                     .k_is_v = c.k_is_v,
                     .v_norm = c.v_norm,
                     .clip = c.clip,
                     .tuning = c.tuning,
                     .tuning_step = 8,
                     .q = q,
                     .act = DType::f32,
                     .slots = slots,
                     .slot_bytes = slot_bytes,
                     .head_bytes = head_bytes,
                     .num_slots = 3,
                     .kv_dtype = kv_dtype});
      std::vector<float> want_q;
      std::vector<std::byte> want(3 * slot_bytes);
      for (int row = 0; row < kRows; ++row) {
        std::vector<float> x(host.begin() + row * stride, host.begin() + (row + 1) * stride);
        for (int h = 1; h < kQ; ++h) std::copy_n(x.begin() + h * q_step, kDim, x.begin() + h * kDim);
        x.erase(x.begin() + kQ * kDim, x.begin() + kQ * q_step);
        float *own_q = x.data(), *k = own_q + kQ * kDim, *v = k + kKv * kDim;
        const auto norm = [&](float* heads, int count, const std::vector<float>& weights) {
          const int width = c.norm == Norm::whole ? count * kDim : kDim;
          for (int at = 0; c.norm != Norm::none && at < count * kDim; at += width)
            reference_kernels().rms_norm({.x = heads + at,
                                          .weight = c.weights ? weights.data() : nullptr,
                                          .weight_dtype = DType::f32,
                                          .y = heads + at,
                                          .width = width,
                                          .eps = 1e-6F,
                                          .offset = c.weights ? 0.5F : 0},
                                         {0, 1});
        };
        const auto norms = [&] {
          norm(own_q, kQ, q_norm_host);
          norm(k, kKv, k_norm_host);
        };
        if (c.k_is_v) std::copy(k, v, v);
        if (!c.rope_first) norms();
        for (float& one : x) one = c.clip > 0 ? std::clamp(one, -c.clip, c.clip) : one;
        for (float* head = own_q; head < v; head += kDim) {
          for (int i = 0; i < c.rope_dim / 2; ++i) {
            float& a = head[c.interleaved ? 2 * i : i];
            float& b = head[c.interleaved ? 2 * i + 1 : i + c.rope_dim / 2];
            const auto at = static_cast<size_t>(row * (c.rope_dim / 2) + i);
            const float a0 = a;
            a = a * cos_host[at] - b * sin_host[at];
            b = b * cos_host[at] + a0 * sin_host[at];
          }
        }
        if (c.rope_first) norms();
        if (c.v_norm) reference_kernels().rms_norm({.x = v, .x_stride = kDim, .y = v, .y_stride = kDim, .width = kDim, .eps = 1e-6F}, {0, kKv});
        for (float* one = own_q; one < k; ++one) *one *= 1 + c.tuning * std::log(1 + std::floor(static_cast<float>(31 + row) / 8));
        want_q.insert(want_q.end(), own_q, k);
        for (int h = 0; h < kKv; ++h) {
          const int position = 30 + row;
          std::byte* at = want.data() + static_cast<size_t>(1 + position / kPageTokens) * slot_bytes + static_cast<size_t>(h) * head_bytes;
          const float *key = k + h * kDim, *value = v + h * kDim;
          kv_dtype == DType::i8 ? store_kv<int8_t>(key, value, kDim, position % kPageTokens, at)
                                : store_kv<float>(key, value, kDim, position % kPageTokens, at);
        }
      }
      expect_near(get<float>(q, want_q.size()), want_q, 1e-5, "q");
      const auto have = get<std::byte>(slots, want.size());
      if (kv_dtype == DType::f32) {
        std::vector<float> have_floats(want.size() / 4), want_floats(have_floats);
        std::memcpy(have_floats.data(), have.data(), want.size());
        std::memcpy(want_floats.data(), want.data(), want.size());
        expect_near(have_floats, want_floats, 1e-5, "K and V");
      } else {
        int off = 0;  // a last bit of a float may round a code the other way
        for (size_t i = 0; i < want.size(); ++i)
          off += std::abs(static_cast<int>(static_cast<int8_t>(have[i])) - static_cast<int>(static_cast<int8_t>(want[i]))) > 1 ? 1 : 0;
        EXPECT_LE(off, 2 * kRows * kKv * 2) << "codes and steps";
      }
    }
  }
}

}  // namespace
}  // namespace moegen
