#include "model/gpu_linear.h"

#include "base/check.h"

namespace moegen {

GpuExpand gpu_expand(const TensorView& w) {
  return {.w = w.data,
          .w_dtype = w.dtype,
          .scales = w.scales,
          .scale_dtype = w.scale_dtype,
          .zeros = w.zeros,
          .group = w.group,
          .block_rows = w.block_rows,
          .matrix_rows = w.first + (w.rows - 1) * w.step + 1,
          .first = w.first,
          .step = w.step,
          .rows = w.rows,
          .cols = w.cols};
}

GpuMatrix gpu_matrix(const GpuContext& c, const TensorView& w, DType dtype) {
  if (w.dtype == dtype) return {gpu_at(w.data, dtype, w.first * w.cols), dtype, w.cols * w.step};
  GpuExpand op = gpu_expand(w);
  op.y = c.buffers.expanded;
  op.y_dtype = dtype;
  c.device.kernels().expand(c.device, c.stream, op);
  return {c.buffers.expanded, dtype, w.cols};
}

void gpu_linear(const GpuContext& c, const GpuLinear& op, const TensorView& w, const TensorView& bias, int64_t m) {
  MOEGEN_CHECK(!bias || op.y_dtype == DType::f32);
  const GpuKernels& kernels = c.device.kernels();
  const DType dtype = w.dtype == DType::f32 && op.y_dtype == DType::f32 ? DType::f32 : c.act;  // floats give floats alone (cuBLASLt)
  const GpuMatrix matrix = gpu_matrix(c, w, dtype);
  GpuGemm gemm{.x = op.x,
               .w = matrix.data,
               .y = op.y,
               .dtype = dtype,
               .y_dtype = op.y_dtype,
               .m = m,
               .n = w.rows,
               .k = w.cols,
               .x_stride = op.x_stride,
               .w_stride = matrix.stride,
               .y_stride = op.y_stride,
               .scale = op.scale,
               .add = op.add};
  if (dtype != c.act) {
    kernels.convert(c.device, c.stream,
                    {.x = op.x, .x_dtype = c.act, .x_stride = op.x_stride, .y = c.buffers.widened, .y_stride = w.cols, .rows = m, .cols = w.cols});
    gemm.x = c.buffers.widened;
    gemm.x_stride = w.cols;
  }
  kernels.gemm(c.device, c.stream, gemm);
  if (!bias) return;
  kernels.bias(c.device, c.stream,
               {.y = static_cast<float*>(op.y),
                .y_stride = op.y_stride,
                .rows = m,
                .cols = w.rows,
                .bias = gpu_at(bias.data, bias.dtype, bias.first * bias.cols),
                .bias_dtype = bias.dtype,
                .scale = op.scale});
}

GpuActivate::Kind gpu_activation(MlpSpec::Activation activation) {
  switch (activation) {
    case MlpSpec::Activation::silu:
      return GpuActivate::Kind::silu;
    case MlpSpec::Activation::clamped_silu:
      return GpuActivate::Kind::clamped_silu;
    case MlpSpec::Activation::gelu:
      return GpuActivate::Kind::gelu;
    case MlpSpec::Activation::relu:
      break;
  }
  return GpuActivate::Kind::relu;
}

void gpu_norm(const GpuContext& c, GpuNorm op, const TensorView& weight, const TensorView& bias) {
  op.weight = weight.data;
  op.weight_dtype = weight.dtype;
  op.width = weight.cols;
  op.bias = bias.data;
  op.bias_dtype = bias.dtype;
  if (op.eps == 0) op.eps = c.spec.norm_eps;
  op.offset = c.spec.norm_offset;
  c.device.kernels().norm(c.device, c.stream, op);
}

void gpu_norm_hidden(const GpuContext& c, Range tokens, const TensorView& weight, const TensorView& bias) {
  const int64_t hidden = c.spec.hidden, at = tokens.begin * hidden;
  gpu_norm(c,
           {.x = c.buffers.hidden + at,
            .x_stride = hidden,
            .y = gpu_at(c.buffers.normed, c.act, at),
            .y_dtype = c.act,
            .y_stride = hidden,
            .rows = tokens.size()},
           weight, bias);
}

}  // namespace moegen
