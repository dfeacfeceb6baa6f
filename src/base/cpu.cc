#include "base/cpu.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>

namespace moegen {
namespace {

// Linux gives a process the 8 KiB of tile registers that a thread then has only when it is asked for them (Documentation/arch/x86/xstate.rst).
bool may_use_tiles() {
  constexpr int kRequestPermission = 0x1023;
  constexpr int kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

CpuFeatures cpu_features() {
  CpuFeatures f;
  f.v3 = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 && __builtin_cpu_supports("bmi2") != 0;
  f.avx512 = __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
             __builtin_cpu_supports("avx512dq") != 0;
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  const bool vbmi = __builtin_cpu_supports("avx512vbmi") != 0;
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d) != 0) f.avx512_bf16 = f.avx512 && vbmi && ((a >> 5) & 1U) != 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0) f.amx_on_cpu = ((d >> 22) & 1U) != 0 && ((d >> 24) & 1U) != 0;
  f.amx_bf16 = f.amx_on_cpu && may_use_tiles();
  return f;
}

std::string to_string(const CpuFeatures& features) {
  std::string text = features.v3 ? "x86-64-v3" : "below x86-64-v3";
  if (features.avx512) text += " avx512";
  if (features.avx512_bf16) text += " avx512_bf16";
  if (features.amx_bf16) text += " amx_bf16";
  return text;
}

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

}  // namespace moegen
