#include "bench/layer.h"

#include <cmath>

#include "model/rope.h"

namespace moegen {
namespace {

constexpr int kVocab = 16;

}  // namespace

ModelSpec bench_spec(int hidden, int width, int heads, int kv_heads, int head_dim) {
  LayerSpec layer;
  layer.attention.num_heads = heads;
  layer.attention.num_kv_heads = kv_heads;
  layer.attention.head_dim = head_dim;
  layer.attention.scale = 1 / std::sqrt(static_cast<float>(head_dim));
  layer.attention.rope.dim = head_dim;
  layer.mlp.width = width;
  ModelSpec spec;
  spec.hidden = hidden;
  spec.vocab = kVocab;
  spec.norm_eps = 1e-6F;
  spec.layers.push_back(layer);
  return spec;
}

BenchLayer::BenchLayer(ModelSpec spec, const PassSizes& sizes, int64_t kv_pages, DType kv_dtype, BenchSetup& setup)
    : spec_(std::move(spec)),
      sizes_(sizes),
      kv_(spec_, kv_dtype),
      kv_memory_(random_memory(static_cast<size_t>(kv_pages) * kv_.page_bytes, kv_dtype == DType::i8 ? DType::f32 : kv_dtype, setup.pool)),
      embedding_(random_memory(static_cast<size_t>(kVocab * spec_.hidden) * bytes_of(setup.dtype), setup.dtype, setup.pool)),
      arena_(Buffers::bytes_needed(spec_, setup.dtype, sizes_), "activations"),
      buffers_(arena_, spec_, setup.dtype, sizes_),
      weights_{{embedding_.data(), setup.dtype, kVocab, spec_.hidden}, {}, {}, std::vector<LayerWeights>(1)},
      frequencies_(rope_frequencies(buffers_.ropes)),
      context_{spec_, weights_, setup.kernels, setup.pool, kv_, kv_memory_.data(), buffers_, sizes_, frequencies_, setup.dtype} {
  fill_random(buffers_.normed, setup.dtype, sizes_.pass_tokens * spec_.hidden, setup.pool);
  fill_random(buffers_.q, setup.dtype, sizes_.pass_tokens * spec_.layers[0].attention.q_width(), setup.pool);
}

}  // namespace moegen
