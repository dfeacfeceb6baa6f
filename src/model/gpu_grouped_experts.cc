#include "model/gpu_grouped_experts.h"

#include <algorithm>
#include <tuple>

#include "base/checked.h"
#include "model/gpu_linear.h"

namespace moegen {
namespace {

// Elements of a matrix: a larger one is cuBLASLt's, whose blocks are larger and fill a GPU with it alone.
constexpr int64_t kMostElements = 16 << 20;
constexpr int64_t kTogether = 8;  // elements that the kernel loads at once

bool is_grouped(const TensorView& w) {
  return w.dtype != DType::f32 && w.rows % kTogether == 0 && w.cols % kTogether == 0 && w.group % kTogether == 0 && w.rows * w.cols <= kMostElements;
}

bool same_format(const TensorView& a, const TensorView& b) {
  const auto form = [](const TensorView& v) { return std::tuple(v.dtype, v.rows, v.cols, v.first, v.step, v.scale_dtype, v.group, v.block_rows); };
  return form(a) == form(b);
}

GpuExpertWeights::Matrix matrix_of(const TensorView& w, const TensorView& bias) {
  return {w.data, w.scales, w.zeros, bias ? gpu_at(bias.data, bias.dtype, bias.first * bias.cols) : nullptr};
}

// normed -> activated -> expert_out, of the rows and experts that op has.
void run(const GpuContext& c, const MlpWeights& form, int64_t num_tokens, GpuGroupedGemm op) {
  op.x = c.buffers.normed;
  op.picked = c.buffers.row_token;
  op.x_rows = num_tokens;
  op.y = gpu_at(c.buffers.expert_out, c.act, op.first * c.spec.hidden);
  gpu_multiply_experts(c.device, c.stream, form, op, c.buffers.activated);
}

}  // namespace

bool gpu_groups(DType act, const MlpSpec& spec, const MlpWeights& expert) {
  const TensorView &gate = expert.gate, &up = expert.up, &down = expert.down;
  return act == DType::bf16 && !spec.router.weighs_input && expert.activation != MlpSpec::Activation::relu && gate.dtype == up.dtype &&
         is_grouped(gate) && is_grouped(up) && is_grouped(down);
}

bool same_format(const MlpWeights& a, const MlpWeights& b) {
  return same_format(a.gate, b.gate) && same_format(a.up, b.up) && same_format(a.down, b.down) && a.gate_bias.dtype == b.gate_bias.dtype &&
         a.down_bias.dtype == b.down_bias.dtype;
}

GpuExpertWeights gpu_expert_weights(const MlpWeights& expert) {
  if (!expert.gate) return {};
  return {matrix_of(expert.gate, expert.gate_bias), matrix_of(expert.up, expert.up_bias), matrix_of(expert.down, expert.down_bias)};
}

int64_t gpu_group_tiles(std::span<const int32_t> begin, Range rows) {
  int64_t sum = 0;
  for (size_t e = 0; e + 1 < begin.size(); ++e) {
    const int64_t count = std::min<int64_t>(begin[e + 1], rows.end) - std::max<int64_t>(begin[e], rows.begin);
    sum += count > 0 ? ceil_div<int64_t>(count, kGpuGroupRows) : 0;
  }
  return sum;
}

void gpu_multiply_experts(Device& device, const Stream& stream, const MlpWeights& form, const GpuGroupedGemm& op, void* activated) {
  const int64_t hidden = form.gate.cols, width = form.gate.rows;
  GpuGroupedGemm gate_and_up = op;
  gate_and_up.x_stride = hidden;
  gate_and_up.gated = true;
  gate_and_up.format[0] = gpu_expand(form.gate);
  gate_and_up.format[1] = gpu_expand(form.up);
  gate_and_up.bias_dtype = form.gate_bias.dtype;
  gate_and_up.kind = gpu_activation(form.activation);
  gate_and_up.clamp = form.clamp;
  gate_and_up.y = activated;
  gate_and_up.y_stride = width;
  device.kernels().grouped_gemm(device, stream, gate_and_up);
  GpuGroupedGemm down = op;
  down.x = activated;
  down.x_stride = width;
  down.picked = nullptr;
  down.format[0] = gpu_expand(form.down);
  down.bias_dtype = form.down_bias.dtype;
  down.y_stride = hidden;
  device.kernels().grouped_gemm(device, stream, down);
}

void gpu_run_grouped_expert(const GpuContext& c, const MlpWeights& expert, int64_t num_tokens, Range rows) {
  GpuGroupedGemm op;
  op.first = rows.begin;
  op.last = rows.end;
  op.num_tiles = ceil_div<int64_t>(rows.size(), kGpuGroupRows);
  op.one = gpu_expert_weights(expert);
  run(c, expert, num_tokens, op);
}

void gpu_run_grouped_experts(const GpuContext& c, size_t layer, int64_t num_tokens, Range rows, std::span<const int32_t> begin, Region resident) {
  const std::vector<MlpWeights>& experts = c.weights.layers[layer].experts;
  GpuGroupedGemm op;
  op.first = rows.begin;
  op.last = rows.end;
  op.expert_begin = c.buffers.expert_begin;
  op.table = c.buffers.expert_tables[layer];
  op.num_experts = static_cast<int>(experts.size());
  op.num_tiles = gpu_group_tiles(begin, rows);
  op.table_memory = resident;
  run(c, experts.front(), num_tokens, op);
}

}  // namespace moegen
