#include "profile/grouped_work.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "model/gpu_grouped_experts.h"

namespace moegen {
namespace {

constexpr int64_t kBlockRows = 128;      // of FP8 that share a scale, as models have them
constexpr uint8_t kScaleByte = 0x3c;     // floats and bf16 of 0.01
constexpr uint8_t kExponentByte = 0x7f;  // an e8m0 of 1

}  // namespace

GroupedWork::GroupedWork(Device& device, const Stream& stream, Region memory, const MlpSpec& spec, int64_t hidden, const MatrixFormat& weights,
                         DType act, int64_t most_rows)
    : device_(device), stream_(stream), memory_(memory), hidden_(hidden), width_(spec.width), most_rows_(most_rows) {
  const bool coded = weights.dtype != DType::bf16 && weights.dtype != DType::f32;
  const DType dtype = coded ? weights.dtype : act;
  const auto view = [&](int64_t rows, int64_t cols) {
    return TensorView{.data = memory.data,
                      .dtype = dtype,
                      .rows = rows,
                      .cols = cols,
                      .group = coded ? (weights.group > 0 ? weights.group : cols) : 0,
                      .block_rows = dtype == DType::f8_e4m3 ? kBlockRows : 1};
  };
  form_.activation = spec.activation;
  form_.clamp = spec.clamp;
  form_.gate = form_.up = view(width_, hidden);
  form_.down = view(hidden, width_);
  const uint64_t matrix = bytes_of(dtype, static_cast<uint64_t>(hidden * width_));
  if (!gpu_groups(act, spec, form_) || memory.bytes < 3 * matrix) return;
  if (coded) {  // a float for each group is the most that there is
    const size_t bytes = static_cast<size_t>(hidden * width_ / std::min(form_.gate.group, form_.down.group)) * sizeof(float);
    scales_ = device.new_buffer(bytes);
    device.fill(stream, scales_.handle(), dtype == DType::f4 ? kExponentByte : kScaleByte, bytes);
    form_.gate.scales = form_.up.scales = form_.down.scales = scales_.handle();
  }
  experts_ = static_cast<int64_t>(memory.bytes / (3 * matrix));
  std::vector<GpuExpertWeights> table;
  for (const auto* at = static_cast<const std::byte*>(memory.data); std::cmp_less(table.size(), experts_); at += 3 * matrix) {
    form_.gate.data = at;
    form_.up.data = at + matrix;
    form_.down.data = at + 2 * matrix;
    table.push_back(gpu_expert_weights(form_));
  }
  table_ = device.new_buffer_of(stream, table.data(), table.size() * sizeof(GpuExpertWeights));
  const auto rows = [&](int64_t columns) { return device.new_buffer(static_cast<size_t>(most_rows * columns) * bytes_of(act)); };
  x_ = rows(hidden);
  activated_ = rows(width_);
  y_ = rows(hidden);
  device.fill(stream, x_.handle(), kScaleByte, static_cast<size_t>(most_rows * hidden) * bytes_of(act));
}

const GroupedWork::Rows& GroupedWork::rows_of(int64_t tokens) {
  Rows& rows = rows_[tokens];
  if (rows.experts > 0) return rows;
  rows.experts = std::clamp<int64_t>(most_rows_ / tokens, 1, experts_);
  std::vector<int32_t> begin;
  for (int64_t e = 0; e <= rows.experts; ++e) begin.push_back(static_cast<int32_t>(e * tokens));
  rows.tiles = gpu_group_tiles(begin, {0, rows.experts * tokens});
  rows.begin = device_.new_buffer_of(stream_, begin.data(), begin.size() * sizeof(int32_t));
  return rows;
}

double GroupedWork::run(int64_t tokens) {
  MOEGEN_CHECK(tokens <= most_rows_);
  const Rows& rows = rows_of(tokens);
  if (next_ + rows.experts > experts_) next_ = 0;
  GpuGroupedGemm op;
  op.last = rows.experts * tokens;
  op.expert_begin = static_cast<const int32_t*>(rows.begin.handle());
  op.table = static_cast<const GpuExpertWeights*>(table_.handle()) + next_;
  op.num_experts = static_cast<int>(rows.experts);
  op.num_tiles = rows.tiles;
  op.table_memory = memory_;
  op.x = x_.handle();
  op.y = y_.handle();
  gpu_multiply_experts(device_, stream_, form_, op, activated_.handle());
  device_.synchronize(stream_);
  next_ += rows.experts;
  return 6.0 * static_cast<double>(rows.experts * tokens * hidden_ * width_);
}

}  // namespace moegen
