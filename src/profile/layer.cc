#include "profile/layer.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/size.h"
#include "model/rope.h"
#include "profile/roofs.h"

namespace moegen {
namespace {

constexpr int kVocab = 16;

int32_t pages_in(const MappedMemory& memory, size_t page_bytes) {
  constexpr size_t kMost = 1 << 24;
  if (memory.size() < 2 * page_bytes) {
    throw_error(ErrorCode::invalid_argument, "--memory {}: less than two pages of keys and values, {} each", format_bytes(memory.size()),
                format_bytes(page_bytes));
  }
  return static_cast<int32_t>(std::min(kMost, memory.size() / page_bytes));
}

ModelWeights with_embedding(ModelWeights weights, const ModelSpec& spec, const Workbench& bench) {
  const auto row_bytes = static_cast<int64_t>(bytes_of(bench.weights, static_cast<uint64_t>(spec.hidden)));
  const int64_t rows = std::min<int64_t>(spec.vocab, static_cast<int64_t>(bench.memory.size()) / row_bytes);
  weights.embedding = view_at(bench, 0, rows, spec.hidden);
  weights.layers.resize(1);
  return weights;
}

}  // namespace

ModelSpec bench_spec(int64_t hidden, int64_t width, const AttentionShape& shape) {
  LayerSpec layer;
  layer.attention.num_heads = shape.heads;
  layer.attention.num_kv_heads = shape.kv_heads;
  layer.attention.head_dim = shape.head_dim;
  const int rope_dim = shape.latent_dim > 0 ? shape.head_dim - shape.latent_dim : 0;
  layer.attention.latent = {.kv_rank = shape.latent_dim, .plain_dim = shape.plain_dim, .rope_dim = rope_dim, .v_dim = shape.v_dim};
  layer.attention.scale = 1 / std::sqrt(static_cast<float>(shape.head_dim));
  layer.attention.rope.dim = shape.head_dim;
  layer.mlp.width = static_cast<int>(width);
  ModelSpec spec;
  spec.hidden = static_cast<int>(hidden);
  spec.vocab = kVocab;
  spec.norm_eps = 1e-6F;
  spec.layers.push_back(layer);
  return spec;
}

PassSizes bench_sizes(int64_t tokens, const Workbench& bench) {
  return {.pass_tokens = tokens,
          .sequences = tokens,
          .wave_tokens = tokens,
          .attention_micro_batch = tokens,
          .expert_micro_batch = 1,
          .logit_rows = 1,
          .page_tokens = kPageTokens,
          .threads = bench.pool.size()};
}

namespace {

size_t code_bytes(const Workbench& bench, int64_t rows, int64_t cols) {
  return round_up<size_t>(bytes_of(bench.weights, static_cast<uint64_t>(rows * cols)), 64);
}

// Of TensorView::scales.
size_t scale_bytes(const Workbench& bench, int64_t rows, int64_t cols) {
  if (bench.weights == DType::f8_e4m3) return static_cast<size_t>(ceil_div(rows, kF8Block) * ceil_div(cols, kF8Block)) * sizeof(float);
  if (bench.group > 0) return static_cast<size_t>(rows * cols / bench.group) * sizeof(bf16);
  return bench.weights == DType::f4 ? static_cast<size_t>(rows * cols / kF4Block) : 0;
}

}  // namespace

size_t view_bytes(const Workbench& bench, int64_t rows, int64_t cols) {
  return code_bytes(bench, rows, cols) + round_up<size_t>(scale_bytes(bench, rows, cols), 64);
}

TensorView view_at(const Workbench& bench, size_t offset, int64_t rows, int64_t cols) {
  const size_t end = offset + view_bytes(bench, rows, cols);
  if (end > bench.memory.size()) {
    throw_error(ErrorCode::invalid_argument, "--memory {}: less than the {} of weights that are used at once", format_bytes(bench.memory.size()),
                format_bytes(end));
  }
  TensorView view{.data = bench.memory.data() + offset, .dtype = bench.weights, .rows = rows, .cols = cols};
  view.group = bench.weights == DType::f8_e4m3 ? kF8Block : bench.group;
  if (bench.weights == DType::f8_e4m3) view.block_rows = kF8Block;
  if (scale_bytes(bench, rows, cols) > 0) view.scales = bench.memory.data() + offset + code_bytes(bench, rows, cols);
  return view;
}

BenchLayer::BenchLayer(ModelSpec spec, const PassSizes& sizes, DType kv_dtype, const Workbench& bench, ModelWeights weights)
    : spec_(std::move(spec)),
      sizes_(sizes),
      kv_(spec_, kv_dtype),
      kv_pages_(pages_in(bench.memory, kv_.page_bytes)),
      arena_(Buffers::bytes_needed(spec_, bench.act, sizes_), "activations"),
      buffers_(arena_, spec_, bench.act, sizes_),
      weights_(with_embedding(std::move(weights), spec_, bench)),
      frequencies_(rope_frequencies(buffers_.ropes)),
      context_{spec_, weights_, bench.kernels, bench.pool, kv_, bench.memory.data(), nullptr, buffers_, sizes_, frequencies_, bench.act} {
  fill_random(buffers_.hidden, DType::f32, sizes_.pass_tokens * spec_.hidden, bench.pool);
  fill_random(buffers_.normed, bench.act, sizes_.pass_tokens * spec_.hidden, bench.pool);
  fill_random(buffers_.q, bench.act, sizes_.pass_tokens * query_stride(spec_.layers[0].attention), bench.pool);
}

}  // namespace moegen
