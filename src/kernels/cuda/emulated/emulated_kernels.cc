#include "kernels/cuda/emulated/emulated_kernels.h"

#include <vector>

#include "base/check.h"
#include "device/emulated/emulated_device.h"
#include "kernels/cuda/ops.cuh"

namespace moegen {
namespace {

struct EmulatedLaunch {
  template <typename Kernel>
  static void run(Device& device, const Stream& stream, const char* name, const gpu::Grid& grid, const typename Kernel::Args& args,
                  std::initializer_list<Region> reads, std::initializer_list<Region> writes) {
    auto& emulated = static_cast<EmulatedDevice&>(device);
    const emulated::Shape shape{static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y), Kernel::kThreads, grid.shared_bytes,
                                gpu::kIndependent<Kernel>};
    emulated.enqueue(stream, name, reads, writes, [shape, args, seed = emulated.seed()] {
      emulated::run(
          shape, seed, [](const void* a) { Kernel::run(*static_cast<const typename Kernel::Args*>(a)); }, &args);
    });
  }
};

template <typename T>
float* widen_row(const T* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = gpu::widen(from[i]);
  return to;
}

// Weights turned around, so that the compiler computes neighbouring columns side by side; each is one chain along k.
template <typename T>
void multiply_one(const GpuGemm& op, int64_t batch) {
  std::vector<float> turned(static_cast<size_t>(op.k * op.n)), x(static_cast<size_t>(op.k)), sums(static_cast<size_t>(op.n));
  const T* w = static_cast<const T*>(op.w) + batch * op.w_step;
  for (int64_t n = 0; n < op.n; ++n) {
    for (int64_t k = 0; k < op.k; ++k) turned[static_cast<size_t>(k * op.n + n)] = gpu::widen(w[n * op.w_stride + k]);
  }
  for (int64_t i = 0; i < op.m; ++i) {
    widen_row(static_cast<const T*>(op.x) + batch * op.x_step + i * op.x_stride, op.k, x.data());
    std::fill(sums.begin(), sums.end(), 0.0F);
    for (int64_t k = 0; k < op.k; ++k) {
      const float* row = turned.data() + k * op.n;
      const float factor = x[static_cast<size_t>(k)];
      for (int64_t n = 0; n < op.n; ++n) sums[static_cast<size_t>(n)] = fmaf(factor, row[n], sums[static_cast<size_t>(n)]);
    }
    for (int64_t n = 0; n < op.n; ++n) {
      const int64_t at = batch * op.y_step + i * op.y_stride + n;
      const float sum = sums[static_cast<size_t>(n)];
      gpu::store(op.y, op.y_dtype, at, op.add ? fmaf(op.scale, sum, gpu::load(op.y, op.y_dtype, at)) : op.scale * sum);
    }
  }
}

void multiply(const GpuGemm& op) {
  for (int64_t b = 0; b < op.batch; ++b) op.dtype == DType::f32 ? multiply_one<float>(op, b) : multiply_one<bf16>(op, b);
}

void gemm(Device& device, const Stream& stream, const GpuGemm& op) {
  MOEGEN_CHECK(op.y_dtype == DType::f32 || op.y_dtype == op.dtype);
  if (op.m == 0) return;
  const auto all = [&](const void* p, DType dtype, int64_t rows, int64_t stride, int64_t cols, int64_t step) {
    Region r = gpu::region(p, dtype, rows, stride, cols);
    r.bytes += static_cast<size_t>((op.batch - 1) * step) * gpu::size_of(dtype);
    return r;
  };
  static_cast<EmulatedDevice&>(device).enqueue(
      stream, "gemm", {all(op.x, op.dtype, op.m, op.x_stride, op.k, op.x_step), all(op.w, op.dtype, op.n, op.w_stride, op.k, op.w_step)},
      {all(op.y, op.y_dtype, op.m, op.y_stride, op.n, op.y_step)}, [op] { multiply(op); });
}

}  // namespace

const GpuKernels& emulated_kernels() {
  static const GpuKernels kernels = gpu::Ops<EmulatedLaunch>::table(gemm);
  return kernels;
}

}  // namespace moegen
