#include <numeric>

#include "tests/kernels/gpu_kernels_test.h"

namespace moegen {
namespace {

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

}  // namespace
}  // namespace moegen
