#include "profile/gemm_work.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "base/checked.h"
#include "base/error.h"
#include "base/size.h"
#include "model/linear.h"
#include "plan/plan.h"

namespace moegen {
namespace {

// A float for a block, or a row, of FP8 is nothing beside its codes.
double bytes_of_weight(const Workbench& bench) {
  const double scales = bench.weights == DType::f4 ? 1.0 / kF4Block : bench.group > 0 ? 2.0 / static_cast<double>(bench.group) : 0;
  return bits_of(bench.weights) / 8.0 + scales;
}

// Of one of `count` matrices that must fit the memory.
size_t matrix_bytes(int64_t rows, int64_t cols, size_t count, const Workbench& bench) {
  const size_t bytes = view_bytes(bench, rows, cols);
  if (count * bytes > bench.memory.size()) {
    throw_error(ErrorCode::invalid_argument, "--memory {}: less than the weights that are used at once, {}", format_bytes(bench.memory.size()),
                format_bytes(count * bytes));
  }
  return bytes;
}

std::vector<MlpWeights> experts_in(const Workbench& bench, int64_t hidden, int64_t width) {
  const size_t bytes = std::max(matrix_bytes(width, hidden, 3, bench), matrix_bytes(hidden, width, 3, bench));
  std::vector<MlpWeights> experts(bench.memory.size() / (3 * bytes));
  size_t at = 0;
  for (MlpWeights& e : experts) {
    const auto next = [&](int64_t rows, int64_t cols) { return view_at(bench, bytes * at++, rows, cols); };
    e.gate = next(width, hidden);
    e.up = next(width, hidden);
    e.down = next(hidden, width);
  }
  return experts;
}

ModelSpec expert_spec(int64_t hidden, int64_t width, size_t experts) {
  ModelSpec spec = bench_spec(hidden, width, {1, 1, 2});
  spec.layers[0].mlp.num_experts = static_cast<int>(experts);
  spec.layers[0].mlp.top_k = 1;
  return spec;
}

PassSizes expert_sizes(int64_t pass_tokens, int64_t most_tokens, const Workbench& bench) {
  PassSizes sizes = bench_sizes(pass_tokens, bench);
  sizes.expert_micro_batch = std::max(kDefaultExpertMicroBatch, most_tokens);
  return sizes;
}

}  // namespace

MlpWork::MlpWork(int64_t hidden, int64_t width, int64_t most_tokens, const Workbench& bench)
    : hidden_(hidden),
      width_(width),
      most_tokens_(most_tokens),
      pass_tokens_(std::max(kDefaultPassTokens, most_tokens)),
      weight_bytes_(bytes_of_weight(bench)),
      experts_(experts_in(bench, hidden, width)),
      layer_(expert_spec(hidden, width, experts_.size()), expert_sizes(pass_tokens_, most_tokens, bench), bench.act, bench),
      parts_(experts_.size()),
      rows_(static_cast<size_t>(pass_tokens_)) {
  fill_random(layer_.buffers().expert_out, bench.act, pass_tokens_ * hidden, bench.pool);  // touched
}

int64_t MlpWork::draw(int64_t tokens, size_t drawn) const {
  constexpr double kNormal[] = {0.58, 1.32, 0.24, 1.01, 0.08, 1.86, 0.4, 0.78};  // the upper half of 16 quantiles
  const double more = kNormal[drawn / 2 % std::size(kNormal)] * std::sqrt(static_cast<double>(tokens));
  return std::clamp<int64_t>(tokens + std::lround(drawn % 2 == 0 ? more : -more), 1, most_tokens_);
}

Work MlpWork::run_routed(int64_t tokens) {
  constexpr int64_t kFewTokens = 16;  // below, weights are waited for
  if (tokens < kFewTokens) return run(tokens);
  size_t& drawn = drawn_[tokens];
  Work sum;
  do {
    const Work one = run_batch(tokens, &drawn);
    sum.flops += one.flops;
    sum.bytes += one.bytes;
  } while (drawn % 2 != 0);
  return sum;
}

// `drawn`: experts that had scattered tokens before; null: all have as many.
Work MlpWork::run_batch(int64_t tokens, size_t* drawn) {
  const int64_t most_rows = std::max(kDefaultExpertMicroBatch, most_tokens_);
  const int64_t experts = std::clamp<int64_t>(kDefaultExpertMicroBatch / tokens, 1, static_cast<int64_t>(experts_.size()));
  const Buffers& b = layer_.buffers();
  if (out_row_ + most_rows > pass_tokens_) out_row_ = 0;
  size_t parts = 0;
  int64_t at = 0;
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t count = drawn != nullptr ? draw(tokens, *drawn) : tokens;
    if (at + count > most_rows) break;  // it comes next
    if (drawn != nullptr) ++*drawn;
    int32_t* rows = rows_.data() + at;
    const int64_t step = pass_tokens_ / count;
    for (int64_t i = 0; i < count; ++i) rows[i] = static_cast<int32_t>(i * step + e % step);
    next_ = (next_ + 1) % experts_.size();
    parts_[parts++] = {
        .mlp = &experts_[next_], .rows = rows, .count = count, .at = at, .y = act_at(layer_.context(), b.expert_out, (out_row_ + at) * hidden_)};
    at += count;
  }
  out_row_ += at;
  run_experts(layer_.context(), {parts_.data(), parts});
  const auto weights = static_cast<double>(3 * hidden_ * width_);
  return {2 * weights * static_cast<double>(at), weights * static_cast<double>(parts) * weight_bytes_};
}

LinearWork::LinearWork(int64_t outputs, int64_t k, int64_t most_rows, const Workbench& bench)
    : bench_(bench),
      outputs_(outputs),
      k_(k),
      matrix_bytes_(matrix_bytes(outputs, k, 1, bench)),
      layer_(bench_spec(k, 1, {1, 1, 2}), bench_sizes(most_rows, bench), bench.act, bench),
      out_(static_cast<size_t>(most_rows * outputs) * sizeof(float), "outputs") {
  fill_random(out_.data(), DType::f32, most_rows * outputs, bench.pool);  // touched
}

Work LinearWork::run(int64_t rows) {
  if (at_ + matrix_bytes_ > bench_.memory.size()) at_ = 0;
  const TensorView w = view_at(bench_, at_, outputs_, k_);
  at_ += matrix_bytes_;
  linear(layer_.context(),
         {.x = layer_.buffers().normed, .x_dtype = bench_.act, .x_stride = k_, .y = out_.data(), .y_dtype = DType::f32, .y_stride = outputs_}, w, {},
         rows);
  const auto weights = static_cast<double>(outputs_ * k_);
  return {2 * weights * static_cast<double>(rows), weights * bytes_of_weight(bench_)};
}

}  // namespace moegen
