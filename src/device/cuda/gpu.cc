#include "device/gpu.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "device/cuda/module.h"

namespace moegen {

GpuBackend find_gpus() {
  GpuBackend out{true, "", {}};
  // Beside the program, never from the library path: what is opened here runs.
  const std::filesystem::path module = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "libmoegen_cuda.so";
  void* handle = ::dlopen(module.c_str(), RTLD_NOW | RTLD_LOCAL);  // stays open: the driver does not like to be unloaded
  if (handle == nullptr) {
    out.problem = ::dlerror();
    return out;
  }
  const auto find = reinterpret_cast<decltype(&moegen_cuda_find)>(::dlsym(handle, "moegen_cuda_find"));
  if (find == nullptr) {
    out.problem = module.string() + " is of another version";
    return out;
  }
  std::array<MoegenCudaGpu, 64> found{};
  std::array<char, 256> problem{};
  const int32_t count = find(found.data(), static_cast<int32_t>(found.size()), problem.data(), static_cast<int32_t>(problem.size()));
  if (count < 0) out.problem = problem.data();
  for (size_t i = 0; i < static_cast<size_t>(std::clamp<int32_t>(count, 0, static_cast<int32_t>(found.size()))); ++i) {
    out.gpus.push_back({found[i].name, found[i].memory_bytes, found[i].compute_capability});
  }
  return out;
}

}  // namespace moegen
