#include "profile/attention_work.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "base/checked.h"

namespace moegen {
namespace {

constexpr int kHidden = 64;  // of no account here

PassSizes sizes_of(int64_t sequences, int64_t queries, const Workbench& bench) {
  PassSizes sizes = bench_sizes(sequences * queries, bench);
  sizes.sequences = sequences;
  sizes.attention_micro_batch = sequences;
  return sizes;
}

// Query i of a block sees `first + i` keys and its own: a product with the key and one with the value for each.
Work work_of(const ModelSpec& spec, int64_t sequences, int64_t queries, int64_t context, DType kv_dtype) {
  const AttentionSpec& a = spec.layers[0].attention;
  const auto keys = static_cast<double>(queries) * (static_cast<double>(context) - static_cast<double>(queries - 1) / 2);
  const auto count = static_cast<double>(sequences);
  const double kv_bytes = static_cast<double>(layer_page_bytes(a, kv_dtype)) / kPageTokens;
  return {count * keys * AttentionShape(a).flops(), count * static_cast<double>(context) * kv_bytes};
}

}  // namespace

AttentionWork::AttentionWork(const AttentionShape& shape, int64_t sequences, int64_t queries, int64_t context, DType kv_dtype, const Workbench& bench)
    : layer_(bench_spec(kHidden, kHidden, shape), sizes_of(sequences, queries, bench), kv_dtype, bench),
      work_(work_of(layer_.spec(), sequences, queries, context, kv_dtype)),
      tokens_(static_cast<size_t>(sequences * queries)),
      pages_(ceil_div<int64_t>(context, kPageTokens)),
      page_tables_(static_cast<size_t>(layer_.kv_pages())) {
  std::iota(page_tables_.begin(), page_tables_.end(), 0);
  std::shuffle(page_tables_.begin(), page_tables_.end(), std::mt19937(0));
  for (int64_t i = 0; i < pages_; ++i) page_tables_.push_back(page_tables_[static_cast<size_t>(i)]);
  for (int64_t s = 0; s < sequences; ++s) {
    sequences_.push_back({static_cast<int32_t>(s * queries), static_cast<int32_t>(queries), context - queries, page_tables_.data()});
  }
  pass_ = {tokens_, sequences_, {}};
  begin_pass(layer_.context(), pass_);
}

Work AttentionWork::run() {
  for (PassSequence& s : sequences_) {
    s.page_table = page_tables_.data() + next_page_;
    next_page_ = (next_page_ + pages_) % layer_.kv_pages();
  }
  const Wave wave = wave_of(layer_.context(), static_cast<int64_t>(tokens_.size()), 0);
  attend(layer_.context(), pass_, 0, wave, 0, static_cast<int64_t>(sequences_.size()));
  return work_;
}

}  // namespace moegen
