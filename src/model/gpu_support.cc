#include "model/gpu_support.h"

#include <string>

#include "base/error.h"
#include "kernels/gpu_functions.h"

namespace moegen {
namespace {

std::string missing_of(const AttentionSpec& a) {
  if (a.value_dim() > kGpuMaxValueDim) return "heads of more than " + std::to_string(kGpuMaxValueDim) + " values";
  return {};
}

std::string missing_of(const MlpSpec& m) {
  if (m.num_experts > kGpuMaxExperts) return "more than " + std::to_string(kGpuMaxExperts) + " experts";
  return {};
}

std::string missing_of(const ModelSpec& s) {
  for (const LayerSpec& layer : s.layers) {
    if (std::string what = missing_of(layer.attention); !what.empty()) return what;
    if (std::string what = missing_of(layer.mlp); !what.empty()) return what;
  }
  return {};
}

}  // namespace

void check_gpu_support(const ModelSpec& spec) {
  const std::string what = missing_of(spec);
  if (!what.empty()) throw_error(ErrorCode::unsupported, "{} on a GPU: {} is not there yet; use --device cpu", spec.family, what);
}

}  // namespace moegen
