#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>

#include "device/cuda/module.h"

static_assert(__cplusplus >= 202002L, "CMake 3.25 drops CUDA_STANDARD 20 silently: see src/device/CMakeLists.txt");

namespace {

void copy_text(char* to, int32_t bytes, const char* from) {
  const size_t length = std::min(std::strlen(from), static_cast<size_t>(bytes) - 1);
  std::memcpy(to, from, length);
  to[length] = '\0';
}

}  // namespace

int32_t moegen_cuda_find(MoegenCudaGpu* gpus, int32_t room, char* problem, int32_t problem_bytes) {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    copy_text(problem, problem_bytes, cudaGetErrorString(error));
    return -1;
  }
  for (int i = 0; i < count && i < room; ++i) {
    cudaDeviceProp properties{};
    if (const cudaError_t error = cudaGetDeviceProperties(&properties, i); error != cudaSuccess) {
      copy_text(problem, problem_bytes, cudaGetErrorString(error));
      return -1;
    }
    copy_text(gpus[i].name, sizeof(gpus[i].name), properties.name);
    gpus[i].memory_bytes = properties.totalGlobalMem;
    gpus[i].compute_capability = properties.major * 10 + properties.minor;
  }
  return count;
}
