#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "device/device.h"

namespace moegen {

/// One GPU that the driver shows.
struct Gpu {
  std::string name;
  uint64_t memory_bytes = 0;
  int compute_capability = 0;  ///< 90 for 9.0
};

/// What a GPU backend found. The folder that implements it is chosen by the build: cuda/ or no_cuda/.
struct GpuBackend {
  bool compiled_in = false;
  std::string problem;  ///< why there are no GPUs, in the driver's words; empty where there are
  std::vector<Gpu> gpus;
};

[[nodiscard]] GpuBackend find_gpus();
/// Number `index` of them. Throws Error(unsupported) where there is no such GPU, with the reason.
[[nodiscard]] std::unique_ptr<Device> open_gpu(int index);

}  // namespace moegen
