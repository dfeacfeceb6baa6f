
#include <algorithm>
#include <charconv>
#include <sstream>

#include "base/checked.h"
#include "base/error.h"
#include "bench/report.h"
#include "bench/setup.h"
#include "moegen/bench.h"
#include "plan/plan.h"
#include "profile/attention_work.h"

namespace moegen {
namespace {

AttentionShape parse_heads(const std::string& text, int64_t head_dim) {
  const auto [heads, kv_heads] = parse_pair("--heads", text, ':', "QUERY:KV heads, as 32:4");
  if (heads % kv_heads != 0 || heads > 1024) {
    throw_error(ErrorCode::invalid_argument, "--heads {}: expected at most 1024 query heads, a multiple of the KV heads", text);
  }
  return {heads, kv_heads, static_cast<int>(head_dim)};
}

// Of the heads of `shape` over latents.
AttentionShape with_latents(const AttentionShape& shape, const std::string& text) {
  std::vector<int> widths;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ':');) {
    int width = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), width);
    if (error != std::errc() || end != part.data() + part.size() || width < 1 || width > 4096) width = 0;
    widths.push_back(width);
  }
  const bool right = widths.size() == 4 && std::find(widths.begin(), widths.end(), 0) == widths.end() && widths[0] % 2 == 0 && widths[2] % 2 == 0;
  if (!right) throw_error(ErrorCode::invalid_argument, "--latent {}: expected RANK:PLAIN:ROPE:V, as 512:128:64:128, RANK and ROPE even", text);
  if (shape.kv_heads != 1) throw_error(ErrorCode::invalid_argument, "--heads {}:{}: --latent has one KV head", shape.heads, shape.kv_heads);
  return {shape.heads, 1, widths[0] + widths[2], widths[0], widths[1], widths[3]};
}

// As many sequences as fill the memory with K and V that they see.
int64_t decode_sequences(const AttentionShape& shape, int64_t seen, DType kv_dtype, const BenchSetup& setup) {
  const auto page_bytes = static_cast<int64_t>(shape.latent_dim > 0 ? latent_page_bytes(kv_dtype, shape.head_dim)
                                                                    : kv_head_bytes(kv_dtype, shape.head_dim) * static_cast<size_t>(shape.kv_heads));
  const auto bytes = static_cast<int64_t>(setup.memory_bytes);
  return std::max<int64_t>(1, bytes / (page_bytes * ceil_div<int64_t>(seen, kPageTokens)));
}

}  // namespace

void bench_attention(const AttentionBench& options, std::ostream& out) {
  constexpr int64_t kMostTokens = 1 << 20;
  check_values("--contexts", options.contexts, kMostTokens);
  check_values("--prompts", options.prompts, kMostTokens);
  if (options.head_dim < 2 || options.head_dim > 1024 || options.head_dim % 2 != 0) {
    throw_error(ErrorCode::invalid_argument, "--head-dim {}: expected an even number from 2 to 1024", options.head_dim);
  }
  if (options.window < 0 || options.window > kMostTokens)
    throw_error(ErrorCode::invalid_argument, "--window {}: expected 0 to {}", options.window, kMostTokens);
  std::vector<AttentionShape> shapes;
  const auto usual = options.latent.empty() ? std::vector<std::string>{"32:4", "32:8", "16:16"} : std::vector<std::string>{"16:1", "128:1"};
  for (const std::string& text : options.heads.empty() ? usual : options.heads) {
    shapes.push_back(parse_heads(text, options.head_dim));
    if (!options.latent.empty()) shapes.back() = with_latents(shapes.back(), options.latent);
  }
  const auto contexts = options.contexts.empty() ? std::vector<int64_t>{128, 512, 2048, 8192} : options.contexts;
  const auto prompts = options.prompts.empty() ? std::vector<int64_t>{512, 1024, 2048, 4096} : options.prompts;
  if (options.kv_dtype != "auto" && options.kv_dtype != "int8")
    throw_error(ErrorCode::invalid_argument, "--kv-dtype {}: expected auto (as --dtype) or int8", options.kv_dtype);
  if (!options.latent.empty() && (options.kv_dtype == "int8" || options.window > 0))
    throw_error(ErrorCode::invalid_argument, "--latent: not with --kv-dtype int8 or --window");
  BenchSetup setup(options, options.dtype);
  const DType kv_dtype = options.kv_dtype == "int8" ? DType::i8 : setup.dtype;
  nlohmann::ordered_json about = about_bench("attention", setup.kernels.name, setup.pool.size());
  about["dtype"] = options.dtype;
  about["kv_dtype"] = options.kv_dtype;
  about["head_dim"] = options.head_dim;
  if (options.window > 0) about["window"] = options.window;
  if (!options.latent.empty()) about["latent"] = options.latent;
  Report report(out, options.json, std::move(about),
                measured_columns({{"phase", "phase"}, {"heads", "heads"}, {"context", "context"}, {"sequences", "sequences"}}));
  const MappedMemory memory = random_memory(setup.memory_bytes, setup.pool);
  const Workbench bench{setup.kernels, setup.pool, setup.dtype, setup.dtype, memory};
  const Roofs roofs(bench);
  const auto add = [&](const char* phase, const AttentionShape& shape, int64_t sequences, int64_t queries, int64_t context) {
    AttentionWork work(shape, {sequences, queries, context, static_cast<int>(options.window)}, kv_dtype, bench);
    work.run();  // touches what it writes
    report.row(measured_cells({phase, std::to_string(shape.heads) + ":" + std::to_string(shape.kv_heads), context, sequences},
                              roofs.measure(setup.samples, [&] { return work.run(); })));
  };
  for (const AttentionShape& shape : shapes) {
    for (const int64_t context : contexts) {
      const int64_t seen = options.window > 0 ? std::min(options.window, context) : context;
      add("decode", shape, decode_sequences(shape, seen, kv_dtype, setup), 1, context);
    }
    for (const int64_t prompt : prompts) add("prefill", shape, std::max<int64_t>(1, kDefaultPassTokens / prompt), prompt, prompt);
  }
  report.finish();
}

}  // namespace moegen
