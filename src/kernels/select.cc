#include "base/cpu.h"
#include "base/error.h"
#include "kernels/functions.h"

namespace moegen {

std::vector<const Kernels*> usable_kernels() {
  const CpuFeatures cpu = cpu_features();
  std::vector<const Kernels*> out;
  if (cpu.amx_bf16 && cpu.avx512_bf16) out.push_back(&amx_kernels());
  if (cpu.avx512_bf16) out.push_back(&avx512_bf16_kernels());
  if (cpu.avx512) out.push_back(&avx512_kernels());
  if (cpu.v3) out.push_back(&avx2_kernels());
  out.push_back(&reference_kernels());
  return out;
}

const Kernels& select_kernels(std::string_view name) {
  const auto usable = usable_kernels();
  if (name == "auto") return *usable.front();
  std::string names = "auto";
  for (const Kernels* kernels : usable) {
    if (kernels->name == name) return *kernels;
    names += ", " + std::string(kernels->name);
  }
  throw_error(ErrorCode::invalid_argument, "CPU path \"{}\": this processor runs {}", name, names);
}

}  // namespace moegen
