#pragma once

#include <string>

namespace moegen {

/// What this processor can do, of what the kernels ask for.
struct CpuFeatures {
  bool v3 = false;           ///< x86-64-v3: AVX2, FMA, BMI2, F16C
  bool avx512 = false;       ///< F, BW, VL, DQ
  bool avx512_bf16 = false;  ///< and VBMI, which all processors with it have but Cooper Lake
  bool amx_on_cpu = false;
  bool amx_bf16 = false;  ///< and the kernel lets this process use it
};

/// Asks the kernel for the matrix unit, where there is one.
CpuFeatures cpu_features();
/// "x86-64-v3 avx512 avx512_bf16"
std::string to_string(const CpuFeatures& features);
/// The model name of /proc/cpuinfo, or "unknown".
std::string cpu_name();

}  // namespace moegen
