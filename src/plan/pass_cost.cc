#include "plan/pass_cost.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/size.h"

namespace moegen {
double touched_experts(const MlpSpec& mlp, double tokens) {
  if (mlp.top_k >= mlp.num_experts) return mlp.num_experts;
  return mlp.num_experts * -std::expm1(tokens * std::log1p(-static_cast<double>(mlp.top_k) / mlp.num_experts));
}

double keys_within(double window, double keys) { return window > 0 ? std::min(window, keys) : keys; }

void PassCost::add(const PassCost& other, double times) {
  for (double PassCost::*part :
       {&PassCost::seconds, &PassCost::cpu, &PassCost::gpu, &PassCost::link, &PassCost::storage, &PassCost::wait, &PassCost::dram, &PassCost::flops,
        &PassCost::projections, &PassCost::attention, &PassCost::experts, &PassCost::logits, &PassCost::rows, &PassCost::bytes_read})
    this->*part += other.*part * times;
}

PassLoad load_of(const Pass& pass) {
  PassLoad load;
  load.logit_rows = static_cast<double>(pass.logit_rows.size());
  for (const PassSequence& s : pass.sequences) {
    const auto tokens = static_cast<double>(s.num_tokens);
    const double keys = tokens * (static_cast<double>(s.first_position) + (tokens + 1) / 2);
    (s.num_tokens == 1 ? load.decodes : load.prompt_tokens) += tokens;
    (s.num_tokens == 1 ? load.decode_keys : load.prompt_keys) += keys;
    if (s.num_tokens > 1) load.chunk_ends += static_cast<double>(s.first_position) + tokens;
  }
  return load;
}

PassCosts::PassCosts(const ModelSpec& spec, const ModelWork& work, const Machine& machine, const Plan& plan, std::span<const WeightUnit> units)
    : spec_(spec),
      work_(work),
      machine_(machine),
      kv_dtype_(plan.kv.dtype),
      ring_bytes_(static_cast<double>(plan.weights.slots) * static_cast<double>(plan.weights.slot_bytes)),
      storage_rate_(0),
      streamed_(spec.layers.size()) {
  for (const LayerSpec& layer : spec.layers) read_ahead_.push_back(read_ahead_tokens(layer.mlp));
  for (const int32_t unit : plan.weights.streamed) {
    const WeightUnit& u = units[static_cast<size_t>(unit)];
    for (const WeightUnit::Range& range : u.ranges) streamed_[static_cast<size_t>(u.layer)] += static_cast<double>(range.end - range.begin);
  }
  if (plan.weights.streamed.empty()) return;
  if (!machine.ssd || !machine.ssd->read_bandwidth) {
    throw_error(ErrorCode::unsupported,
                "{}: {} a pass would stream from storage, whose rate is not known: give ssd.read_bandwidth, or more --host-memory", machine.name,
                format_bytes(plan.weights.streamed_bytes));
  }
  storage_rate_ = machine.ssd->by_depth.empty() ? *machine.ssd->read_bandwidth : machine.ssd->by_depth.at(kReadDepth, kReadPieceBytes);
}

// The steps of src/model in their order.
PassCosts::Layer PassCosts::cost_layer(size_t l, const PassLoad& load, PassCost& cost) const {
  const LayerSpec& layer = spec_.layers[l];
  const LayerWork& work = work_.layers[l];
  const AttentionSpec& a = layer.attention;
  const MlpSpec& mlp = layer.mlp;
  const double tokens = load.decodes + load.prompt_tokens;
  const double hidden = spec_.hidden;
  const double before_cpu = cost.cpu;
  const auto add = [&](double PassCost::*part, double seconds) {
    cost.*part += seconds;
    cost.cpu += seconds;
  };
  double products = 0;  // multiply-adds
  double bytes = 0;     // of weights and KV
  const auto linear = [&](int64_t outputs, int64_t k, double rows, const MatrixFormat& weights) {
    if (rows <= 0) return;
    add(&PassCost::projections, machine_.linear_seconds(outputs, k, rows, weights));
    products += static_cast<double>(outputs) * static_cast<double>(k) * rows;
    bytes += static_cast<double>(outputs) * static_cast<double>(k) * weights.bytes;
  };
  const auto mlp_products = [&](int64_t width, double mlps, double rows, const MatrixFormat& weights) {
    const double each = 3 * hidden * static_cast<double>(width);
    add(&PassCost::experts, mlps * machine_.mlp_seconds(spec_.hidden, width, rows / mlps, weights));
    products += each * rows;
    bytes += each * mlps * weights.bytes;
  };
  add(&PassCost::rows, 2 * machine_.row_seconds(&StepRates::Rows::norm, tokens, hidden));
  for (const LinearShape& s : linears_of(a, spec_.hidden)) linear(s.outputs, s.k, s.of_generated ? load.decodes : tokens, work.attention);
  const double turned = a.is_latent()   ? a.num_heads * a.latent.rope_dim + a.head_dim
                        : a.is_linear() ? a.delta.channels()
                                        : a.q_width() + 2 * a.kv_width();
  add(&PassCost::rows, machine_.row_seconds(&StepRates::Rows::place, tokens, turned));
  const AttentionShape shape(a);
  if (a.is_linear()) {
    add(&PassCost::attention, machine_.delta_seconds(a.delta, tokens, load.decodes));
    bytes += load.decodes * delta_decode_bytes(a.delta);
  }
  if (load.decodes > 0 && !a.is_linear()) {
    const double context = keys_within(a.mean_window(), load.decode_keys / load.decodes);
    add(&PassCost::attention, machine_.decode_seconds(shape, load.decodes, context, kv_dtype_));
    bytes += load.decodes * context * kv_token_bytes(shape, kv_dtype_);
    products += load.decodes * context * shape.flops() / 2;
  }
  if (load.prompt_tokens > 0 && !a.is_linear()) {
    const double mean = load.prompt_keys / load.prompt_tokens;
    const double keys = load.prompt_tokens * keys_within(a.mean_window(), mean);
    add(&PassCost::attention, machine_.prefill_seconds(shape, std::max(1.0, 2 * mean), keys, load.chunk_ends));
    products += (keys * shape.prompt_flops() + load.chunk_ends * shape.expansion_flops()) / 2;
  }
  Layer out;
  if (!mlp.dense()) {
    linear(mlp.num_experts, spec_.hidden, tokens, MatrixFormat::plain(spec_.dtype));
    add(&PassCost::rows, machine_.row_seconds(&StepRates::Rows::route, tokens, mlp.num_experts));
  }
  out.before = cost.cpu - before_cpu;
  if (mlp.dense()) {
    mlp_products(mlp.width, 1, tokens, work.mlp);
  } else {
    mlp_products(mlp.width, touched_experts(mlp, tokens), tokens * mlp.top_k, work.experts);
    add(&PassCost::rows, machine_.row_seconds(&StepRates::Rows::combine, tokens, mlp.top_k * hidden));
  }
  if (mlp.shared_width > 0) mlp_products(mlp.shared_width, 1, tokens, work.mlp);
  out.experts = cost.cpu - before_cpu - out.before;
  cost.dram += bytes / machine_.dram.bandwidth;
  cost.flops += 2 * products / machine_.cpu.bf16_flops;
  return out;
}

void PassCosts::cost_logits(const PassLoad& load, PassCost& cost) const {
  const double tokens = load.decodes + load.prompt_tokens;
  const double begin = machine_.row_seconds(&StepRates::Rows::embed, tokens, spec_.hidden);
  cost.rows += begin;
  cost.cpu += begin;
  if (load.logit_rows <= 0) return;
  const auto choose = [&](Curve StepRates::Rows::*how, double rows) { return rows > 0 ? machine_.row_seconds(how, rows, spec_.vocab) : 0; };
  const double seconds = machine_.linear_seconds(spec_.vocab, spec_.hidden, load.logit_rows, work_.head) +
                         choose(&StepRates::Rows::argmax, load.logit_rows - load.drawn_rows) + choose(&StepRates::Rows::draw, load.drawn_rows);
  cost.logits += seconds;
  cost.cpu += seconds;
  const double weights = static_cast<double>(spec_.vocab) * spec_.hidden;
  cost.dram += weights * work_.head.bytes / machine_.dram.bandwidth;
  cost.flops += 2 * weights * load.logit_rows / machine_.cpu.bf16_flops;
}

// The ring holds what was read and not computed with. While a layer's experts run, all its bytes have to come; the rest of the time it
// fills, where what is wanted next is known. The second of two passes, since the first begins with an empty ring.
void PassCosts::cost_ring(std::vector<Layer>& layers, const PassLoad& load, double slower, double storage_rate, PassCost& cost) const {
  const double tokens = load.decodes + load.prompt_tokens;
  double filled = 0;
  for (const bool counts : {false, true}) {
    cost.wait = 0;
    for (size_t l = 0; l < layers.size(); ++l) {
      Layer& layer = layers[l];
      const bool ahead = tokens >= static_cast<double>(read_ahead_[l]);
      if (ahead) filled = std::min(ring_bytes_, filled + layer.before * slower * storage_rate);
      const double experts = layer.experts * slower;
      const double stage = std::max(experts, std::max(0.0, layer.bytes - filled) / storage_rate);
      layer.wait = stage - experts;
      cost.wait += layer.wait;
      const bool next_ahead = tokens >= static_cast<double>(read_ahead_[(l + 1) % layers.size()]);
      filled = next_ahead ? std::min(ring_bytes_, std::max(0.0, filled + stage * storage_rate - layer.bytes)) : 0;
    }
    if (!counts) filled = std::min(ring_bytes_, filled + cost.logits * storage_rate);
  }
}

PassCost PassCosts::of(const PassLoad& load, const LookAtLayer& look) const {
  PassCost cost;
  const double tokens = load.decodes + load.prompt_tokens;
  if (tokens <= 0) return cost;
  std::vector<Layer> layers(spec_.layers.size());
  PassCost one;  // of the layer before
  for (size_t l = 0; l < layers.size(); ++l) {
    if (l == 0 || !(spec_.layers[l] == spec_.layers[l - 1] && work_.layers[l].same_formats(work_.layers[l - 1]))) {
      one = {};
      layers[l] = cost_layer(l, load, one);
    } else {
      layers[l] = layers[l - 1];
    }
    cost.add(one);
    const MlpSpec& mlp = spec_.layers[l].mlp;
    layers[l].bytes = streamed_[l] * (mlp.dense() ? 1 : touched_experts(mlp, tokens) / mlp.num_experts);
    cost.bytes_read += layers[l].bytes;
  }
  cost_logits(load, cost);
  if (machine_.steps) {
    const double fixed = machine_.steps->pass_seconds * static_cast<double>(layers.size());
    cost.rows += fixed;
    cost.cpu += fixed;
  }
  cost.seconds = cost.cpu;
  constexpr std::array kParts{&PassCost::projections, &PassCost::attention, &PassCost::experts, &PassCost::logits, &PassCost::rows};
  const double alone = cost.cpu;
  if (storage_rate_ > 0) {
    // Both are slower while the other runs; for how long that is, is known once there is a first figure.
    double slower = 1;
    double rate = storage_rate_;
    for (int i = 0; i < 3; ++i) {
      cost.storage = cost.bytes_read / rate;
      cost_ring(layers, load, slower, rate, cost);
      cost.cpu = alone * slower;
      cost.seconds = cost.cpu + cost.wait;
      slower = 1 + std::min(1.0, cost.storage / cost.seconds) * (1 / machine_.ssd->compute_beside - 1);
      rate = storage_rate_ * (1 - cost.cpu / cost.seconds * (1 - machine_.ssd->beside_compute));
    }
    for (double PassCost::*part : kParts) cost.*part *= cost.cpu / alone;
  }
  for (size_t l = 0; look && l < layers.size(); ++l) {
    one = {};
    static_cast<void>(cost_layer(l, load, one));
    for (double PassCost::*part : kParts) one.*part *= cost.cpu / alone;
    one.wait = layers[l].wait;
    one.bytes_read = layers[l].bytes;
    look(static_cast<int64_t>(l), one);
  }
  return cost;
}

}  // namespace moegen
