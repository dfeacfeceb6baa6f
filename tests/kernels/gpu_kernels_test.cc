#include "tests/kernels/gpu_kernels_test.h"

namespace moegen {
namespace {

std::vector<testing::TestDevice> devices() {
  std::vector<testing::TestDevice> out;
  for (uint64_t seed = 3; seed <= 5; ++seed)  // threads of a block forwards, backwards, shuffled
    out.push_back({fmt::format("emulated{}", seed), [seed] { return testing::emulated_device({.seed = seed}); }});
  if (!find_gpus().gpus.empty()) out.push_back({"gpu", [] { return open_gpu(0); }});
  return out;
}
INSTANTIATE_TEST_SUITE_P(Devices, GpuKernelsTest, ::testing::ValuesIn(devices()), [](const auto& d) { return d.param.name; });

}  // namespace
}  // namespace moegen
