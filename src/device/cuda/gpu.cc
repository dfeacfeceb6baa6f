#include "device/gpu.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "base/error.h"
#include "device/cuda/module.h"

namespace moegen {

namespace {

// A function of the module, or null with the reason. The module stays open: the driver does not like to be unloaded.
template <typename Function>
Function* find_function(const char* name, std::string& problem) {
  // Beside the program, never from the library path: what is opened here runs.
  const std::filesystem::path module = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "libmoegen_cuda.so";
  void* handle = ::dlopen(module.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    problem = ::dlerror();
    return nullptr;
  }
  auto* function = reinterpret_cast<Function*>(::dlsym(handle, name));
  if (function == nullptr) problem = module.string() + " is of another version";
  return function;
}

}  // namespace

GpuBackend find_gpus() {
  GpuBackend out{true, "", {}};
  const auto find = find_function<decltype(moegen_cuda_find)>("moegen_cuda_find", out.problem);
  if (find == nullptr) return out;
  std::array<MoegenCudaGpu, 64> found{};
  std::array<char, 256> problem{};
  const int32_t count = find(found.data(), static_cast<int32_t>(found.size()), problem.data(), static_cast<int32_t>(problem.size()));
  if (count < 0) out.problem = problem.data();
  for (size_t i = 0; i < static_cast<size_t>(std::clamp<int32_t>(count, 0, static_cast<int32_t>(found.size()))); ++i) {
    out.gpus.push_back({found[i].name, found[i].memory_bytes, found[i].compute_capability});
  }
  return out;
}

std::unique_ptr<Device> open_gpu(int index) {
  const GpuBackend found = find_gpus();
  if (static_cast<size_t>(index) >= found.gpus.size()) {
    const std::string why = found.problem.empty() ? fmt::format("there are {}", found.gpus.size()) : found.problem;
    throw_error(ErrorCode::unsupported, "--device cuda:{}: no such GPU: {}", index, why);
  }
  std::string problem;
  const auto open = find_function<decltype(moegen_cuda_open)>("moegen_cuda_open", problem);
  if (open == nullptr) throw_error(ErrorCode::unsupported, "--device cuda:{}: {}", index, problem);
  return std::unique_ptr<Device>(open(index));
}

}  // namespace moegen
