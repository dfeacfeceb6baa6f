#include "moegen/version.h"

#include <fmt/format.h>

#include "base/cpu.h"
#include "kernels/functions.h"

namespace moegen {

std::string version_text() {
  std::string found;
  for (const Kernels* kernels : usable_kernels()) found += fmt::format(" {}", kernels->name);
  return fmt::format(
      "moegen {} (commit {})\nbackends: cpu\nCPU paths compiled in: avx512 avx2 reference\nCPU paths found:{}\nCPU: {} ({})", MOEGEN_VERSION,
      MOEGEN_COMMIT, found, cpu_name(), to_string(cpu_features()));
}

}  // namespace moegen
