#include "profile/attention_work.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "base/checked.h"
#include "model/expanded_attention.h"

namespace moegen {
namespace {

constexpr int kHidden = 64;  // of no account here

PassSizes sizes_of(const AttentionLoad& load, const Workbench& bench) {
  PassSizes sizes = bench_sizes(load.sequences * load.queries, bench);
  sizes.sequences = load.sequences;
  sizes.attention_micro_batch = load.sequences;
  return sizes;
}

ModelSpec spec_of(const AttentionShape& shape, int window) {
  ModelSpec spec = bench_spec(kHidden, kHidden, shape);
  spec.layers[0].attention.window = window;
  return spec;
}

// First position that any query sees.
int64_t first_seen_of(const AttentionLoad& load) { return first_seen(load.context - load.queries, load.window, 0); }

// A product with the key and one with the value for each query and each key that it sees, its own among them.
Work work_of(const ModelSpec& spec, const AttentionLoad& load, DType kv_dtype) {
  const AttentionSpec& a = spec.layers[0].attention;
  double keys = 0;
  for (int64_t p = load.context - load.queries; p < load.context; ++p) keys += static_cast<double>(p + 1 - first_seen(p, load.window, 0));
  const auto count = static_cast<double>(load.sequences);
  const double kv_bytes = static_cast<double>(layer_page_bytes(a, kv_dtype)) / kPageTokens;
  const AttentionShape shape(a);
  const bool prompt = load.queries > 1;
  const double flops = prompt ? shape.prompt_flops() * keys + shape.expansion_flops() * static_cast<double>(load.context) : shape.flops() * keys;
  return {count * flops, count * static_cast<double>(load.context - first_seen_of(load)) * kv_bytes};
}

// What the expanded form makes keys and values of.
ModelWeights weights_of(const AttentionShape& shape, const AttentionLoad& load, const Workbench& bench) {
  ModelWeights weights;
  weights.layers.resize(1);
  if (shape.latent_dim > 0 && load.queries > 1) {
    weights.layers[0].kv_b = view_at(bench, 0, int64_t{shape.heads} * (shape.plain_dim + shape.v_dim), shape.latent_dim);
  }
  return weights;
}

}  // namespace

AttentionWork::AttentionWork(const AttentionShape& shape, const AttentionLoad& load, DType kv_dtype, const Workbench& bench)
    : layer_(spec_of(shape, load.window), sizes_of(load, bench), kv_dtype, bench, weights_of(shape, load, bench)),
      work_(work_of(layer_.spec(), load, kv_dtype)),
      tokens_(static_cast<size_t>(load.sequences * load.queries)),
      seen_pages_(ceil_div<int64_t>(load.context, kPageTokens) - first_seen_of(load) / kPageTokens),
      page_tables_(static_cast<size_t>(layer_.kv_pages())) {
  std::iota(page_tables_.begin(), page_tables_.end(), 0);
  std::shuffle(page_tables_.begin(), page_tables_.end(), std::mt19937(0));
  for (int64_t i = 0; i < ceil_div<int64_t>(load.context, kPageTokens); ++i) page_tables_.push_back(page_tables_[static_cast<size_t>(i)]);
  for (int64_t s = 0; s < load.sequences; ++s) {
    sequences_.push_back({static_cast<int32_t>(s * load.queries), static_cast<int32_t>(load.queries), load.context - load.queries,
                          page_tables_.data(), load.queries > 1 ? load.context : 0});
  }
  pass_ = {tokens_, sequences_, {}};
  begin_pass(layer_.context(), pass_);
}

Work AttentionWork::run() {
  for (PassSequence& s : sequences_) {
    s.page_table = page_tables_.data() + next_page_;
    next_page_ = (next_page_ + seen_pages_) % layer_.kv_pages();
  }
  const Wave wave = wave_of(layer_.context(), static_cast<int64_t>(tokens_.size()), 0);
  if (layer_.context().weights.layers[0].kv_b) prepare_expansion(layer_.context(), 0);
  attend(layer_.context(), pass_, 0, wave, 0, static_cast<int64_t>(sequences_.size()));
  return work_;
}

}  // namespace moegen
