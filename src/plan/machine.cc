#include "plan/machine.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/kv_page.h"
#include "model/delta_state.h"

namespace moegen {
namespace {

constexpr double kOtherKind = 100;  // is further away than any size

// How unlike two sizes are: 0 where equal, alike for half and twice.
double unlike(int64_t a, int64_t b) { return std::abs(std::log(static_cast<double>(a) / static_cast<double>(b))); }

// The one of `all` for which `distance` is least; null where there is none.
template <typename T, typename Distance>
const T* nearest(const std::vector<T>& all, const Distance& distance) {
  const T* best = nullptr;
  double least = std::numeric_limits<double>::infinity();
  for (const T& one : all) {
    if (const double d = distance(one); d < least) {
      best = &one;
      least = d;
    }
  }
  return best;
}

const StepRates::Attention* attention_like(const Machine& m, const AttentionShape& shape) {
  if (!m.steps) return nullptr;
  return nearest(m.steps->attentions, [&](const StepRates::Attention& a) {
    const double latent = (a.shape.latent_dim > 0) == (shape.latent_dim > 0) ? 0 : kOtherKind;
    return latent + unlike(a.shape.heads, shape.heads) + unlike(a.shape.kv_heads, shape.kv_heads) + unlike(a.shape.head_dim, shape.head_dim);
  });
}

double other_kind(DType a, DType b) { return a == b ? 0 : kOtherKind; }

// FLOP/s of a product with weights from DRAM: two FLOPs a weight and row, until that is the peak. Products of float are half as fast.
double roof(const Machine& m, double rows, const MatrixFormat& weights) {
  const double peak = weights.dtype == DType::f32 ? m.cpu.bf16_flops / 2 : m.cpu.bf16_flops;
  return std::min(peak, 2 * rows * m.dram.bandwidth / weights.bytes);
}

}  // namespace

double Machine::mlp_seconds(int64_t hidden, int64_t width, double tokens, const MatrixFormat& weights) const {
  const auto* like = !steps ? nullptr : nearest(steps->mlps, [&](const auto& m) {
    return unlike(m.hidden, hidden) + unlike(m.width, width) + other_kind(m.weights, weights.dtype);
  });
  return 6 * static_cast<double>(hidden) * static_cast<double>(width) * tokens /
         (like != nullptr ? like->flops.at(tokens) : roof(*this, tokens, weights));
}

double Machine::linear_seconds(int64_t outputs, int64_t k, double rows, const MatrixFormat& weights) const {
  const auto* like = !steps ? nullptr : nearest(steps->linears, [&](const auto& l) {
    return unlike(l.outputs, outputs) + unlike(l.k, k) + other_kind(l.weights, weights.dtype);
  });
  return 2 * static_cast<double>(outputs) * static_cast<double>(k) * rows / (like != nullptr ? like->flops.at(rows) : roof(*this, rows, weights));
}

double Machine::decode_seconds(const AttentionShape& shape, double sequences, double context, DType kv) const {
  const auto* like = attention_like(*this, shape);
  // In another type than was measured a key takes about as long: int8 has half the bytes, and these have to be expanded.
  if (like != nullptr) return sequences * context * kv_token_bytes(shape, steps->kv) / like->decode.at(sequences, context);
  return std::max(sequences * context * kv_token_bytes(shape, kv) / dram.bandwidth, shape.flops() * sequences * context / cpu.attention_flops);
}

double Machine::prefill_seconds(const AttentionShape& shape, double context, double keys, double chunk_ends) const {
  const auto* like = attention_like(*this, shape);
  return (shape.prompt_flops() * keys + shape.expansion_flops() * chunk_ends) / (like != nullptr ? like->prefill.at(context) : cpu.attention_flops);
}

double kv_token_bytes(const AttentionShape& shape, DType kv) {
  const size_t page =
      shape.latent_dim > 0 ? latent_page_bytes(kv, shape.head_dim) : static_cast<size_t>(shape.kv_heads) * kv_head_bytes(kv, shape.head_dim);
  return static_cast<double>(page) / kPageTokens;
}

double delta_decode_bytes(const DeltaSpec& d) {
  // All is read, and the state written by the last token of a chunk.
  return (static_cast<double>(DeltaState(d).floats) + static_cast<double>(d.value_heads) * d.key_dim * d.value_dim / kDeltaChunk) * sizeof(float);
}

double Machine::delta_seconds(const DeltaSpec& d, double tokens, double decodes) const {
  constexpr double kProductRate = 100e9;  // FLOP/s of a core: products with the state of a head, which is in its L1 or L2
  const double state = static_cast<double>(d.value_heads) * d.key_dim * d.value_dim;
  return tokens * 6 * state / (kProductRate * cpu.cores) + decodes * delta_decode_bytes(d) / dram.bandwidth;
}

double Machine::row_seconds(Curve StepRates::Rows::*step, double rows, double width) const {
  constexpr double kElementBytes = 8;  // read as float, written as float or bfloat16
  const bool measured_here = steps && !(steps->rows.*step).empty();
  return rows * width / (measured_here ? (steps->rows.*step).at(rows) : dram.bandwidth / kElementBytes);
}

}  // namespace moegen
