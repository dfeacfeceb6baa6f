// The kernels of the CUDA module.
#include "device/cuda/check.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/ops.cuh"

static_assert(__cplusplus >= 202002L, "CMake 3.25 drops CUDA_STANDARD 20 silently: see src/device/CMakeLists.txt");

namespace moegen {
namespace {

template <typename Kernel>
__global__ void __launch_bounds__(Kernel::kThreads) enter(const typename Kernel::Args args) {
  Kernel::run(args);
}

struct CudaLaunch {
  template <typename Kernel>
  static void run(Device&, const Stream& stream, const char* name, const gpu::Grid& grid, const typename Kernel::Args& args,
                  std::initializer_list<Region>, std::initializer_list<Region>) {
    constexpr size_t kPlainSharedBytes = 48 << 10;  // beyond it has to be asked for
    if (grid.shared_bytes > kPlainSharedBytes) {
      check_cuda(cudaFuncSetAttribute(enter<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(grid.shared_bytes)), name);
    }
    const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y));
    enter<Kernel><<<blocks, Kernel::kThreads, grid.shared_bytes, static_cast<cudaStream_t>(stream.handle())>>>(args);
    check_cuda(cudaGetLastError(), name);
  }
};

__global__ void do_nothing() {}

}  // namespace

bool has_kernels() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, do_nothing) == cudaSuccess;
}

const GpuKernels& cuda_kernels() {
  static const GpuKernels kernels = gpu::Ops<CudaLaunch>::table(cuda_gemm);
  return kernels;
}

}  // namespace moegen
