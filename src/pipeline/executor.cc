#include "pipeline/executor.h"

#include <algorithm>

#include "base/check.h"
#include "model/linear.h"
#include "model/rope.h"

namespace moegen {
namespace {

Arena make_arena(const ModelSpec& spec, DType act, const PassSizes& sizes) {
  Arena measure;
  const Buffers buffers(measure, spec, act, sizes);
  return {measure.used(), "activations"};
}

std::vector<std::vector<float>> all_frequencies(const std::vector<RopeSpec>& ropes) {
  std::vector<std::vector<float>> out;
  for (const RopeSpec& rope : ropes) out.push_back(rope_frequencies(rope));
  return out;
}

// Calls f(first, last) over [begin, end) in steps: the micro-batches.
template <typename F>
void in_steps(int64_t begin, int64_t end, int64_t step, const F& f) {
  for (int64_t i = begin; i < end; i += step) f(i, std::min(end, i + step));
}

}  // namespace

Executor::Executor(const ModelSpec& spec, const ModelWeights& weights, const Kernels& kernels, ThreadPool& pool, const Plan& plan, DType act)
    : sizes_(plan.sizes),
      kv_(plan.kv),
      kv_pages_(static_cast<size_t>(plan.kv_pages) * plan.kv.page_bytes, "KV pages"),
      arena_(make_arena(spec, act, sizes_)),
      buffers_(arena_, spec, act, sizes_),
      frequencies_(all_frequencies(buffers_.ropes)),
      context_{spec, weights, kernels, pool, kv_, kv_pages_.data(), buffers_, sizes_, frequencies_, act} {}

void Executor::run(const Pass& pass, LogitsConsumer& consumer) {
  const auto num_tokens = static_cast<int64_t>(pass.tokens.size());
  const auto num_sequences = static_cast<int64_t>(pass.sequences.size());
  MOEGEN_CHECK(num_tokens > 0 && num_tokens <= sizes_.pass_tokens && num_sequences <= sizes_.sequences);
  begin_pass(context_, pass);
  for (size_t layer = 0; layer < context_.spec.layers.size(); ++layer) {
    project_qkv(context_, pass, layer);
    in_steps(0, num_sequences, sizes_.attention_micro_batch, [&](int64_t first, int64_t last) { attend(context_, pass, layer, first, last); });
    project_out(context_, num_tokens, layer);
    run_mlp(num_tokens, layer);
  }
  in_steps(0, static_cast<int64_t>(pass.logit_rows.size()), sizes_.logit_rows, [&](int64_t first, int64_t last) {
    compute_logits(context_, pass.logit_rows.data() + first, last - first);
    consumer.take(first, last - first, buffers_.logits);
  });
}

void Executor::run_mlp(int64_t num_tokens, size_t layer) {
  const MlpSpec& spec = context_.spec.layers[layer].mlp;
  const LayerWeights& weights = context_.weights.layers[layer];
  const int64_t step = sizes_.expert_micro_batch;
  if (spec.dense()) {
    in_steps(0, num_tokens, step, [&](int64_t first, int64_t last) { run_dense(context_, weights.dense, first, last); });
    return;
  }
  route(context_, num_tokens, layer);
  run_experts(layer);
  combine_experts(context_, num_tokens, layer);
  if (spec.shared_width > 0) {
    in_steps(0, num_tokens, step, [&](int64_t first, int64_t last) { run_shared(context_, weights, first, last); });
  }
}

// Experts in order, as many at a time as an expert micro-batch holds rows.
void Executor::run_experts(size_t layer) {
  const LayerWeights& weights = context_.weights.layers[layer];
  const int64_t limit = sizes_.expert_micro_batch;
  size_t parts = 0;
  int64_t rows = 0;
  const auto flush = [&] {
    if (parts > 0) moegen::run_experts(context_, {buffers_.parts, parts});
    parts = 0;
    rows = 0;
  };
  for (size_t e = 0; e < weights.experts.size(); ++e) {
    in_steps(buffers_.expert_begin[e], buffers_.expert_begin[e + 1], limit, [&](int64_t first, int64_t last) {
      if (rows + last - first > limit) flush();
      buffers_.parts[parts++] = {&weights.experts[e],
                                 buffers_.row_token + first,
                                 0,
                                 last - first,
                                 rows,
                                 act_at(context_, buffers_.expert_out, first * context_.spec.hidden)};
      rows += last - first;
    });
  }
  flush();
}

}  // namespace moegen
