#include "bench/attention.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "base/checked.h"
#include "base/error.h"
#include "bench/report.h"
#include "moegen/bench.h"
#include "plan/plan.h"

namespace moegen {
namespace {

constexpr int kHidden = 64;  // of no account here

PassSizes sizes_for(int64_t sequences, int64_t queries, const BenchSetup& setup) {
  return {.pass_tokens = sequences * queries,
          .sequences = sequences,
          .wave_tokens = sequences * queries,
          .attention_micro_batch = sequences,
          .expert_micro_batch = 1,
          .logit_rows = 1,
          .page_tokens = kPageTokens,
          .threads = setup.pool.size()};
}

// Query i of a block sees `first + i` keys and its own: a product with the key and one with the value for each.
Work work_of(const AttentionShape& shape, int64_t sequences, int64_t queries, int64_t context, DType kv_dtype) {
  const auto keys = static_cast<double>(queries) * (static_cast<double>(context) - static_cast<double>(queries - 1) / 2);
  const auto count = static_cast<double>(sequences);
  const double kv_bytes = static_cast<double>(shape.kv_heads) * static_cast<double>(kv_head_bytes(kv_dtype, shape.head_dim)) / kPageTokens;
  return {count * keys * 4 * shape.heads * shape.head_dim, count * static_cast<double>(context) * kv_bytes};
}

}  // namespace

AttentionWork::AttentionWork(const AttentionShape& shape, int64_t sequences, int64_t queries, int64_t context, DType kv_dtype, BenchSetup& setup)
    : work_(work_of(shape, sequences, queries, context, kv_dtype)),
      layer_(bench_spec(kHidden, kHidden, shape.heads, shape.kv_heads, shape.head_dim), sizes_for(sequences, queries, setup),
             sequences * ceil_div<int64_t>(context, kPageTokens), kv_dtype, setup),
      tokens_(static_cast<size_t>(sequences * queries)),
      page_tables_(static_cast<size_t>(sequences * ceil_div<int64_t>(context, kPageTokens))) {
  std::iota(page_tables_.begin(), page_tables_.end(), 0);
  std::shuffle(page_tables_.begin(), page_tables_.end(), std::mt19937(0));
  const int64_t pages = ceil_div<int64_t>(context, kPageTokens);
  for (int64_t s = 0; s < sequences; ++s) {
    sequences_.push_back({static_cast<int32_t>(s * queries), static_cast<int32_t>(queries), context - queries, page_tables_.data() + s * pages});
  }
  pass_ = {tokens_, sequences_, {}};
  begin_pass(layer_.context(), pass_);
}

Work AttentionWork::run() {
  attend(layer_.context(), pass_, 0, wave_of(layer_.context(), static_cast<int64_t>(tokens_.size()), 0), 0, static_cast<int64_t>(sequences_.size()));
  return work_;
}

namespace {

AttentionShape parse_heads(const std::string& text, int64_t head_dim) {
  const auto [heads, kv_heads] = parse_pair("--heads", text, ':', "QUERY:KV heads, as 32:4");
  if (heads % kv_heads != 0 || heads > 1024) {
    throw_error(ErrorCode::invalid_argument, "--heads {}: expected at most 1024 query heads, a multiple of the KV heads", text);
  }
  return {heads, kv_heads, static_cast<int>(head_dim)};
}

// As many sequences as fill the memory with K and V.
int64_t decode_sequences(const AttentionShape& shape, int64_t context, DType kv_dtype, const BenchSetup& setup) {
  const auto page_bytes = static_cast<int64_t>(kv_head_bytes(kv_dtype, shape.head_dim)) * shape.kv_heads;
  const auto bytes = static_cast<int64_t>(setup.memory_bytes);
  return std::max<int64_t>(1, bytes / (page_bytes * ceil_div<int64_t>(context, kPageTokens)));
}

}  // namespace

void bench_attention(const AttentionBench& options, std::ostream& out) {
  constexpr int64_t kMostTokens = 1 << 20;
  check_values("--contexts", options.contexts, kMostTokens);
  check_values("--prompts", options.prompts, kMostTokens);
  if (options.head_dim < 2 || options.head_dim > 1024 || options.head_dim % 2 != 0) {
    throw_error(ErrorCode::invalid_argument, "--head-dim {}: expected an even number from 2 to 1024", options.head_dim);
  }
  std::vector<AttentionShape> shapes;
  for (const std::string& text : options.heads.empty() ? std::vector<std::string>{"32:4", "32:8", "16:16"} : options.heads)
    shapes.push_back(parse_heads(text, options.head_dim));
  const auto contexts = options.contexts.empty() ? std::vector<int64_t>{128, 512, 2048, 8192} : options.contexts;
  const auto prompts = options.prompts.empty() ? std::vector<int64_t>{512, 1024, 2048, 4096} : options.prompts;
  if (options.kv_dtype != "auto" && options.kv_dtype != "int8")
    throw_error(ErrorCode::invalid_argument, "--kv-dtype {}: expected auto (as --dtype) or int8", options.kv_dtype);
  BenchSetup setup(options, options.dtype);
  const DType kv_dtype = options.kv_dtype == "int8" ? DType::i8 : setup.dtype;
  nlohmann::ordered_json about = about_bench("attention", setup.kernels.name, setup.pool.size());
  about["dtype"] = options.dtype;
  about["kv_dtype"] = options.kv_dtype;
  about["head_dim"] = options.head_dim;
  Report report(out, options.json, std::move(about),
                measured_columns({{"phase", "phase"}, {"heads", "heads"}, {"context", "context"}, {"sequences", "sequences"}}));
  const MappedMemory dram = random_memory(setup.memory_bytes, setup.dtype, setup.pool);
  const Roofs roofs(setup.kernels, setup.dtype, setup.pool, dram);
  const auto add = [&](const char* phase, const AttentionShape& shape, int64_t sequences, int64_t queries, int64_t context) {
    AttentionWork work(shape, sequences, queries, context, kv_dtype, setup);
    work.run();  // touches what it writes
    report.row(measured_cells({phase, std::to_string(shape.heads) + ":" + std::to_string(shape.kv_heads), context, sequences},
                              roofs.measure(setup.samples, [&] { return work.run(); })));
  };
  for (const AttentionShape& shape : shapes) {
    for (const int64_t context : contexts) add("decode", shape, decode_sequences(shape, context, kv_dtype, setup), 1, context);
    for (const int64_t prompt : prompts) add("prefill", shape, std::max<int64_t>(1, kDefaultPassTokens / prompt), prompt, prompt);
  }
  report.finish();
}

}  // namespace moegen
