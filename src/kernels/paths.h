#pragma once

#include <string_view>

namespace moegen {

/// The names of all kernels that are compiled in, best first.
inline constexpr std::string_view kKernelPaths = "amx avx512_bf16 avx512 avx2 reference";

}  // namespace moegen
