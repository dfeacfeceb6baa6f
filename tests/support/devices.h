#pragma once

#include <fmt/format.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "device/emulated/emulated_device.h"
#include "device/gpu.h"
#include "kernels/cuda/emulated/emulated_kernels.h"

namespace moegen::testing {

struct TestDevice {
  std::string name;
  std::function<std::unique_ptr<Device>()> open;
};

inline void PrintTo(const TestDevice& d, std::ostream* out) { *out << d.name; }

inline std::unique_ptr<EmulatedDevice> emulated_device(const EmulatedDevice::Options& options) {
  return std::make_unique<EmulatedDevice>(emulated_kernels(), options);
}

/// The emulated device with some seeds, once without pinned memory; the first GPU, where there is one.
inline std::vector<TestDevice> test_devices() {
  std::vector<TestDevice> out;
  for (uint64_t seed = 1; seed <= 5; ++seed)
    out.push_back({fmt::format("emulated{}", seed), [seed] { return emulated_device({.seed = seed, .pins = seed != 5}); }});
  if (!find_gpus().gpus.empty()) out.push_back({"gpu", [] { return open_gpu(0); }});
  return out;
}

}  // namespace moegen::testing
