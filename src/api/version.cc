#include "moegen/version.h"

#include <fmt/format.h>

#include "base/cpu.h"
#include "base/size.h"
#include "commit.h"  // made by the build
#include "device/gpu.h"
#include "kernels/functions.h"
#include "kernels/paths.h"

namespace moegen {

namespace {

std::string backends_text() {
  const GpuBackend gpu = find_gpus();
  std::string text = gpu.compiled_in ? "backends compiled in: cpu cuda\nbackends found: cpu" : "backends compiled in: cpu\nbackends found: cpu";
  for (const Gpu& g : gpu.gpus) text += fmt::format("\nGPU: {}, {}, sm_{}", g.name, format_bytes(g.memory_bytes), g.compute_capability);
  return gpu.problem.empty() ? text : fmt::format("{}\nno GPU: {}", text, gpu.problem);
}

}  // namespace

std::string version_text() {
  std::string found;
  for (const Kernels* kernels : usable_kernels()) found += fmt::format(" {}", kernels->name);
  return fmt::format("moegen {} (commit {})\n{}\nCPU paths compiled in: {}\nCPU paths found:{}\nCPU: {} ({})", MOEGEN_VERSION, MOEGEN_COMMIT,
                     backends_text(), kKernelPaths, found, cpu_name(), to_string(cpu_features()));
}

}  // namespace moegen
