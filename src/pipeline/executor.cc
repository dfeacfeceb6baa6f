#include "pipeline/executor.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "base/checked.h"
#include "model/rope.h"

namespace moegen {
namespace {

// Calls f(first, last) over [begin, end) in steps: the micro-batches.
template <typename F>
void in_steps(int64_t begin, int64_t end, int64_t step, const F& f) {
  for (int64_t i = begin; i < end; i += step) f(i, std::min(end, i + step));
}

}  // namespace

Executor::Executor(const ModelSpec& spec, const ModelWeights& weights, WeightStream* stream, const Kernels& kernels, ThreadPool& pool,
                   const Plan& plan, DType act, Trace* trace)
    : sizes_(plan.sizes),
      stream_(stream),
      trace_(trace),
      kv_(plan.kv),
      kv_pages_(static_cast<size_t>(plan.kv_pages) * plan.kv.page_bytes, "KV pages"),
      states_(static_cast<size_t>(sizes_.sequences) * plan.kv.state_bytes(), "recurrent states"),
      arena_(Buffers::bytes_needed(spec, act, sizes_), "activations"),
      buffers_(arena_, spec, act, sizes_),
      logit_rows_(static_cast<size_t>(sizes_.logit_rows)),
      frequencies_(rope_frequencies(buffers_.ropes)),
      context_{spec, weights, kernels, pool, kv_, kv_pages_.data(), reinterpret_cast<float*>(states_.data()), buffers_, sizes_, frequencies_, act} {}

void Executor::run(const Pass& pass, LogitsConsumer& consumer) {
  const auto num_tokens = static_cast<int64_t>(pass.tokens.size());
  const auto num_sequences = static_cast<int64_t>(pass.sequences.size());
  MOEGEN_CHECK(num_tokens > 0 && num_tokens <= sizes_.pass_tokens && num_sequences <= sizes_.sequences);
  if (stream_ != nullptr) stream_->begin_pass(num_tokens);
  begin_pass(context_, pass);
  expert_load_ = {};
  for (size_t layer = 0; layer < context_.spec.layers.size(); ++layer) {
    layer_.store(static_cast<int>(layer), std::memory_order_relaxed);
    for (int64_t i = 0; i < ceil_div(num_tokens, sizes_.wave_tokens); ++i) run_attention(pass, layer, wave_of(context_, num_tokens, i));
    run_mlp(num_tokens, layer);
  }
  const Trace::Span span(trace_, "logits");
  in_steps(0, static_cast<int64_t>(pass.logit_rows.size()), sizes_.logit_rows, [&](int64_t first, int64_t last) {
    compute_logits(context_, pass.logit_rows.data() + first, last - first);
    for (int64_t i = 0; i < last - first; ++i) logit_rows_[static_cast<size_t>(i)] = {.logits = buffers_.logits + i * context_.spec.vocab};
    consumer.take(first, std::span(logit_rows_).first(static_cast<size_t>(last - first)));
  });
  layer_.store(-1, std::memory_order_relaxed);
}

void Executor::run_attention(const Pass& pass, size_t layer, const Wave& wave) {
  const auto l = static_cast<int64_t>(layer);
  {
    const Trace::Span span(trace_, "q, k, v", l);
    project_qkv(context_, pass, layer, wave);
  }
  {
    const Trace::Span span(trace_, "attention", l);
    const int64_t begin = buffers_.query_blocks[wave.blocks.begin].sequence;
    const int64_t end = buffers_.query_blocks[wave.blocks.end - 1].sequence + 1;
    in_steps(begin, end, sizes_.attention_micro_batch, [&](int64_t first, int64_t last) { attend(context_, pass, layer, wave, first, last); });
  }
  const Trace::Span span(trace_, "output projection", l);
  project_out(context_, layer, wave);
}

// Runs experts that stay, from number `next` on, as many as fit a batch; whether there were any.
bool Executor::run_resident(ExpertBatch& batch, size_t layer, size_t& next, int most) const {
  const auto& experts = context_.weights.layers[layer].experts;
  for (; next < experts.size() && batch.num_experts() < most; ++next) {
    if (!experts[next].gate || batch.rows_of(next) == 0) continue;
    if (!batch.fits(next)) break;
    batch.add(next, experts[next]);
  }
  const bool some = batch.num_experts() > 0;
  batch.run();
  return some;
}

// No result depends on the order: experts that stay fill the time in which the next of those that stream is on its way.
void Executor::run_experts(size_t layer) {
  const auto& experts = context_.weights.layers[layer].experts;
  const int most = stream_ == nullptr ? std::numeric_limits<int>::max() : stream_->units_at_once();
  ExpertBatch batch(context_, trace_, layer);
  count_experts(buffers_.expert_begin, experts.size());
  size_t resident = 0;
  const auto run_streamed = [&] {
    if (batch.num_experts() == 0) return;
    batch.run();
    stream_->release();
  };
  for (size_t e = 0; e < experts.size(); ++e) {
    if (experts[e].gate || batch.rows_of(e) == 0) continue;
    MOEGEN_CHECK(stream_ != nullptr);
    if (batch.num_experts() == most || !batch.fits(e) || !stream_->is_there()) run_streamed();
    while (!stream_->is_there() && run_resident(batch, layer, resident, most)) {
    }
    batch.add(e, stream_->take(layer, static_cast<int>(e)));
  }
  if (stream_ != nullptr) run_streamed();
  while (run_resident(batch, layer, resident, most)) {
  }
}

void Executor::run_mlp(int64_t num_tokens, size_t layer) {
  const MlpSpec& spec = context_.spec.layers[layer].mlp;
  const LayerWeights& weights = context_.weights.layers[layer];
  const int64_t step = sizes_.expert_micro_batch;
  const auto l = static_cast<int64_t>(layer);
  if (!spec.dense()) {
    const Trace::Span span(trace_, "router", l);
    route(context_, num_tokens, layer);
  }
  if (stream_ != nullptr) stream_->routed(layer, spec.dense() ? nullptr : buffers_.expert_begin);
  if (spec.dense()) {
    const bool streams = !weights.dense.gate;
    MOEGEN_CHECK(!streams || stream_ != nullptr);
    const MlpWeights& mlp = streams ? stream_->take(layer, -1) : weights.dense;
    const Trace::Span span(trace_, "dense MLP", l);
    in_steps(0, num_tokens, step, [&](int64_t first, int64_t last) { run_dense(context_, mlp, first, last); });
    if (streams) stream_->release();
    return;
  }
  run_experts(layer);
  const Trace::Span span(trace_, "combine, shared expert", l);
  combine_experts(context_, num_tokens, layer);
  if (spec.shared_width > 0) {
    in_steps(0, num_tokens, step, [&](int64_t first, int64_t last) { run_shared(context_, weights, first, last); });
  }
  if (context_.spec.layers[layer].branch_norms) finish_branches(context_, num_tokens, layer);
}

}  // namespace moegen
