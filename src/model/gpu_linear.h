#pragma once

#include "model/gpu_steps.h"

namespace moegen {

/// Element i of memory of that type.
inline void* gpu_at(void* p, DType dtype, int64_t i) { return static_cast<std::byte*>(p) + static_cast<size_t>(i) * bytes_of(dtype); }
inline const void* gpu_at(const void* p, DType dtype, int64_t i) {
  return static_cast<const std::byte*>(p) + static_cast<size_t>(i) * bytes_of(dtype);
}

/// y (+)= scale * (x w^T + bias), m rows of act; y float, or act without a bias. Weights in float are multiplied in float where y is, all others in
/// act, as which they are expanded where they are stored otherwise.
struct GpuLinear {
  const void* x = nullptr;  ///< [m, w.cols] act
  int64_t x_stride = 0;
  void* y = nullptr;
  DType y_dtype = DType::f32;
  int64_t y_stride = 0;
  bool add = false;
  float scale = 1;
};
void gpu_linear(const GpuContext& c, const GpuLinear& op, const TensorView& w, const TensorView& bias, int64_t m);

/// Whether gpu_linear may expand weights of this type.
[[nodiscard]] inline bool gpu_expands(DType weights, DType act) { return weights != act; }
/// The weight as it is multiplied: where it lies, or expanded.
struct GpuMatrix {
  const void* data = nullptr;
  DType dtype = DType::bf16;
  int64_t stride = 0;
};
/// Expansion of a weight, but for what becomes of it.
[[nodiscard]] GpuExpand gpu_expand(const TensorView& w);
[[nodiscard]] GpuMatrix gpu_matrix(const GpuContext& c, const TensorView& w, DType dtype);

[[nodiscard]] GpuActivate::Kind gpu_activation(MlpSpec::Activation activation);

/// y = rms_norm(x) * weight, with the model's epsilon unless one is given; with a bias LayerNorm.
void gpu_norm(const GpuContext& c, GpuNorm op, const TensorView& weight, const TensorView& bias = {});
/// Likewise hidden -> normed, of these tokens.
void gpu_norm_hidden(const GpuContext& c, Range tokens, const TensorView& weight, const TensorView& bias = {});

}  // namespace moegen
