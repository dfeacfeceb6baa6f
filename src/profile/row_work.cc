#include "profile/row_work.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>

#include "base/checked.h"
#include "model/linear.h"
#include "plan/plan.h"
#include "profile/roofs.h"

namespace moegen {
namespace {

constexpr int64_t kThinCols = 16;  // of projections whose time is taken off again
constexpr int64_t kMostLogitRows = 64;

// Where the memory is small it does not hold the whole vocabulary.
ModelSpec with_room(ModelSpec spec, const Workbench& bench) {
  const auto rows = static_cast<int64_t>(bench.memory.size() / bytes_of(bench.weights)) / spec.hidden;
  spec.vocab = static_cast<int>(std::clamp<int64_t>(rows, 1, spec.vocab));
  return spec;
}

PassSizes sizes_of(const ModelSpec& spec, int64_t tokens, const Workbench& bench) {
  PassSizes sizes = bench_sizes(tokens, bench);
  sizes.logit_rows = std::min<int64_t>(kMostLogitRows, std::max<int64_t>(1, static_cast<int64_t>(bench.memory.size() / 4) / spec.vocab));
  return sizes;
}

// Norms and biases as they are, projections with few columns.
ModelWeights thin_weights(const ModelSpec& spec, const Workbench& bench) {
  const AttentionSpec& a = spec.layers[0].attention;
  const auto vector = [&](int64_t width) { return view_at(bench, 0, 1, width); };
  LayerWeights w;
  w.attention_norm = vector(spec.hidden);
  w.q = view_at(bench, 0, a.q_width(), kThinCols);
  w.k = view_at(bench, 0, a.kv_width(), kThinCols);
  w.v = w.k;
  w.q_norm = vector(a.q_width());
  w.k_norm = vector(a.kv_width());
  if (a.qkv_bias) {
    w.q_bias = vector(a.q_width());
    w.k_bias = vector(a.kv_width());
    w.v_bias = w.k_bias;
  }
  if (!spec.layers[0].mlp.dense()) w.router = view_at(bench, 0, spec.layers[0].mlp.num_experts, kThinCols);
  ModelWeights weights;
  weights.layers.push_back(std::move(w));
  return weights;
}

// What is left of `whole` seconds when `part` is taken off, which was measured by itself and may be off.
double without(double whole, double part) { return std::max(whole - part, whole / 20); }

Sequence sequence_with(double temperature) {
  Sequence s;
  auto sampling = std::make_shared<Sampling>();
  sampling->temperature = temperature;
  s.sampling = std::move(sampling);
  return s;
}

}  // namespace

RowWork::RowWork(const ModelSpec& spec, DType kv_dtype, int64_t most_tokens, const Workbench& bench)
    : bench_(bench),
      layer_(with_room(spec, bench), sizes_of(with_room(spec, bench), most_tokens, bench), kv_dtype, bench, thin_weights(spec, bench)),
      pages_(static_cast<size_t>(layer_.kv_pages() - layer_.kv_pages() / 2)),
      most_tokens_(std::min(most_tokens, static_cast<int64_t>(pages_.size()) * kPageTokens)),
      tokens_(static_cast<size_t>(most_tokens_)),
      sampler_(bench.kernels, layer_.spec().vocab, bench.pool.size()) {
  std::mt19937 random(0);
  for (int32_t& token : tokens_) token = static_cast<int32_t>(random() % static_cast<uint32_t>(layer_.context().weights.embedding.rows));
  std::iota(pages_.begin(), pages_.end(), layer_.kv_pages() / 2);  // weights lie in the other half
  std::shuffle(pages_.begin(), pages_.end(), random);
  const AttentionSpec& attention = layer_.spec().layers[0].attention;
  const MlpSpec& mlp = layer_.spec().layers[0].mlp;
  const Buffers& b = layer_.buffers();
  fill_random(b.qkv, DType::f32, most_tokens_ * (attention.q_width() + 2 * attention.kv_width()), bench.pool);  // touched
  fill_random(b.logits, DType::f32, layer_.context().sizes.logit_rows * layer_.spec().vocab, bench.pool);
  fill_random(b.expert_out, bench.act, most_tokens_ * mlp.top_k * layer_.spec().hidden, bench.pool);  // last: others lie over it
}

// A page of tokens is a sequence.
void RowWork::begin(int64_t tokens) {
  sequences_.clear();
  for (int64_t at = 0; at < tokens; at += kPageTokens) {
    sequences_.push_back(
        {static_cast<int32_t>(at), static_cast<int32_t>(std::min<int64_t>(kPageTokens, tokens - at)), 0, pages_.data() + at / kPageTokens});
  }
  pass_ = {std::span(tokens_).first(static_cast<size_t>(tokens)), sequences_, {}};
  begin_pass(layer_.context(), pass_);
}

void RowWork::run_norm(int64_t tokens) {
  const StepContext& c = layer_.context();
  const int64_t hidden = c.spec.hidden;
  norm(c, {.x = c.buffers.hidden, .x_dtype = DType::f32, .x_stride = hidden, .y = c.buffers.normed, .y_dtype = c.act, .y_stride = hidden},
       c.weights.layers[0].attention_norm, tokens);
}

// Of norms of heads, rope and K and V to their pages: project_qkv without its norm and its projections.
double RowWork::place_rate(int64_t tokens) {
  const StepContext& c = layer_.context();
  const LayerWeights& w = c.weights.layers[0];
  const AttentionSpec& a = c.spec.layers[0].attention;
  const int64_t stride = a.q_width() + 2 * a.kv_width();
  begin(tokens);
  const double whole = seconds_per_call([&] { project_qkv(c, pass_, 0, wave_of(c, tokens, 0)); });
  const double part = seconds_per_call([&] {
    run_norm(tokens);
    int64_t at = 0;
    for (const TensorView* weight : {&w.q, &w.k, &w.v}) {
      linear(c,
             {.x = c.buffers.normed, .x_dtype = c.act, .x_stride = c.spec.hidden, .y = c.buffers.qkv + at, .y_dtype = DType::f32, .y_stride = stride},
             *weight, {}, tokens);
      at += weight->rows;
    }
  });
  return static_cast<double>(tokens * stride) / without(whole, part);
}

// Of softmax, the best k and the sort: route without its projection.
double RowWork::route_rate(int64_t tokens) {
  const StepContext& c = layer_.context();
  const int64_t experts = c.spec.layers[0].mlp.num_experts;
  const double whole = seconds_per_call([&] { route(c, tokens, 0); });
  const double part = seconds_per_call([&] {
    linear(c,
           {.x = c.buffers.normed,
            .x_dtype = c.act,
            .x_stride = c.spec.hidden,
            .y = c.buffers.router_logits,
            .y_dtype = DType::f32,
            .y_stride = experts},
           c.weights.layers[0].router, {}, tokens);
  });
  return static_cast<double>(tokens * experts) / without(whole, part);
}

double RowWork::sampler_rate(const Sequence& sequence, int64_t rows) {
  const int64_t vocab = layer_.spec().vocab;
  return units_per_second([&] {
    bench_.pool.parallel_for(
        rows, [&](int64_t i, int worker) { static_cast<void>(sampler_.sample(sequence, {.logits = layer_.buffers().logits + i * vocab}, worker)); });
    return static_cast<double>(rows * vocab);
  });
}

StepRates::Rows RowWork::sample(const Effort& effort) {
  const StepContext& c = layer_.context();
  const Effort each = effort.part(1.0 / 7);
  const auto curve = [&](int64_t most, const auto& rate) {
    std::vector<Sampled> points;
    for (const int64_t rows : {int64_t{1}, int64_t{16}, int64_t{64}, int64_t{512}, kDefaultPassTokens}) {
      if (rows <= most) points.push_back({static_cast<double>(rows), [&rate, rows] { return rate(rows); }});
    }
    return sample_curve(points, each);
  };
  // Elements/s of a step over `width` elements a token.
  const auto steps = [&](int64_t width, const auto& step) {
    return curve(most_tokens_, [&](int64_t tokens) { return static_cast<double>(tokens * width) / seconds_per_call([&] { step(tokens); }); });
  };
  StepRates::Rows rows;
  rows.embed = steps(c.spec.hidden, [&](int64_t tokens) { begin(tokens); });
  rows.norm = steps(c.spec.hidden, [&](int64_t tokens) { run_norm(tokens); });
  rows.place = curve(most_tokens_, [&](int64_t tokens) { return place_rate(tokens); });
  if (const MlpSpec& mlp = c.spec.layers[0].mlp; !mlp.dense()) {
    rows.route = curve(most_tokens_, [&](int64_t tokens) { return route_rate(tokens); });
    rows.combine = curve(most_tokens_, [&](int64_t tokens) {
      route(c, tokens, 0);  // says which rows belong to a token
      return static_cast<double>(tokens * mlp.top_k * c.spec.hidden) / seconds_per_call([&] { combine_experts(c, tokens, 0); });
    });
  }
  const Sequence greedy = sequence_with(0);
  const Sequence drawn = sequence_with(0.7);
  rows.argmax = curve(c.sizes.logit_rows, [&](int64_t n) { return sampler_rate(greedy, n); });
  rows.draw = curve(c.sizes.logit_rows, [&](int64_t n) { return sampler_rate(drawn, n); });
  return rows;
}

double pass_seconds(const Workbench& bench) {
  constexpr int kSize = 64;
  ModelSpec spec = bench_spec(kSize, kSize, {2, 1, kSize / 2});
  MlpSpec& mlp = spec.layers[0].mlp;
  mlp.num_experts = 2;
  mlp.top_k = 1;
  const TensorView square = view_at(bench, 0, kSize, kSize);
  const auto rows = [&](int64_t count) { return view_at(bench, 0, count, kSize); };
  LayerWeights w;
  w.attention_norm = w.mlp_norm = rows(1);
  w.q = w.o = square;
  w.k = w.v = rows(kSize / 2);
  w.router = rows(2);
  ModelWeights weights;
  weights.final_norm = rows(1);
  weights.lm_head = rows(spec.vocab);
  weights.layers.push_back(std::move(w));
  const BenchLayer layer(spec, bench_sizes(1, bench), bench.act, bench, std::move(weights));
  MlpWeights expert;
  expert.gate = expert.up = expert.down = square;
  const int32_t row = 0;
  const MlpRows part{.mlp = &expert, .rows = &row, .count = 1, .y = layer.buffers().expert_out};
  const int32_t token = 0;
  const int32_t page = layer.kv_pages() - 1;  // not where the weights lie
  const PassSequence sequence{0, 1, 0, &page};
  const Pass pass{{&token, 1}, {&sequence, 1}, {&row, 1}};
  const StepContext& c = layer.context();
  return seconds_per_call([&] {
    begin_pass(c, pass);
    const Wave wave = wave_of(c, 1, 0);
    project_qkv(c, pass, 0, wave);
    attend(c, pass, 0, wave, 0, 1);
    project_out(c, 0, wave);
    route(c, 1, 0);
    run_experts(c, {&part, 1});
    combine_experts(c, 1, 0);
    compute_logits(c, &row, 1);
  });
}

}  // namespace moegen
