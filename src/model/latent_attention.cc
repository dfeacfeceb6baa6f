#include "model/latent_attention.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "kernels/kv_page.h"
#include "model/expanded_attention.h"
#include "model/linear.h"
#include "model/rope.h"

namespace moegen {
namespace {

constexpr float kNormEps = 1e-6F;  // of latents, whatever config.json has

struct Row {
  int64_t token;    // of the pass
  int64_t in_wave;  // of it
  bool prompt;
};

// Of each head, over some rows: y = x w^T with the [outputs, k] block of kv_b that lies `row` rows of kv_rank behind the head's first.
struct HeadLinear {
  const void* x;
  int64_t x_stride, x_head;  // elements from one row, and from one head, to the next
  int64_t row, outputs, k;
  void* y;
  int64_t y_stride, y_head;
};

// Calls f with the rows of generated tokens of a wave, some that follow one another at a time.
template <typename F>
void for_generated(const StepContext& c, const Wave& wave, const F& f) {
  Range rows;
  for (int64_t i = wave.blocks.begin; i < wave.blocks.end; ++i) {
    const QueryBlock& block = c.buffers.query_blocks[i];
    if (!block.prompt) {
      rows.end += block.count;
      continue;
    }
    if (rows.size() > 0) f(rows);
    rows = {rows.end + block.count, rows.end + block.count};
  }
  if (rows.size() > 0) f(rows);
}

bool has_prompts(const StepContext& c, const Wave& wave) {
  const QueryBlock* blocks = c.buffers.query_blocks;
  return std::any_of(blocks + wave.blocks.begin, blocks + wave.blocks.end, [](const QueryBlock& b) { return b.prompt; });
}

void head_linear(const StepContext& c, size_t layer, const HeadLinear& op, Range rows) {
  const AttentionSpec& a = c.spec.layers[layer].attention;
  const TensorView& w = c.weights.layers[layer].kv_b;
  const int64_t width = col_block(op.outputs, rows.size());
  const int64_t row_tiles = ceil_div(rows.size(), kRowBlock);
  const int64_t col_tiles = ceil_div(op.outputs, width);
  c.pool.parallel_for(a.num_heads * row_tiles * col_tiles, [&](int64_t tile, int worker) {
    const int64_t row = rows.begin + tile % row_tiles * kRowBlock;
    const int64_t col = tile / row_tiles % col_tiles * width;
    const int64_t head = tile / row_tiles / col_tiles;
    const int64_t first = (head * (a.latent.plain_dim + a.latent.v_dim) + op.row) * a.latent.kv_rank;
    c.kernels.gemm({.x = static_cast<const std::byte*>(op.x) + static_cast<size_t>(head * op.x_head) * bytes_of(c.act),
                    .x_dtype = c.act,
                    .x_stride = op.x_stride,
                    .w = static_cast<const std::byte*>(w.data) + static_cast<size_t>(first) * bytes_of(w.dtype),
                    .w_dtype = w.dtype,
                    .y = act_at(c, op.y, head * op.y_head),
                    .y_dtype = c.act,
                    .y_stride = op.y_stride,
                    .k = op.k,
                    .scratch = scratch_of(c, worker)},
                   {row, std::min(rows.end, row + kRowBlock)}, {col, std::min(op.outputs, col + width)});
  });
}

// hidden or its latent -> heads [m, heads, plain_dim + rope_dim].
void project_queries(const StepContext& c, size_t layer, const void* normed, int64_t m) {
  const AttentionSpec& a = c.spec.layers[layer].attention;
  const LayerWeights& w = c.weights.layers[layer];
  const Buffers& b = c.buffers;
  const int64_t stride = int64_t{a.num_heads} * (a.latent.plain_dim + a.latent.rope_dim);
  const auto project = [&](const void* x, const TensorView& weight) {
    linear(c, {.x = x, .x_dtype = c.act, .x_stride = weight.cols, .y = b.heads, .y_dtype = c.act, .y_stride = stride}, weight, {}, m);
  };
  if (a.latent.q_rank == 0) return project(normed, w.q);
  const int64_t rank = a.latent.q_rank;
  linear(c, {.x = normed, .x_dtype = c.act, .x_stride = c.spec.hidden, .y = b.qkv, .y_dtype = DType::f32, .y_stride = rank}, w.q_a, {}, m);
  norm(c, {.x = b.qkv, .x_dtype = DType::f32, .x_stride = rank, .y = b.q_latent, .y_dtype = c.act, .y_stride = rank, .eps = kNormEps}, w.q_a_norm, m);
  project(b.q_latent, w.q_b);
}

// The query of one token and head, [plain | not yet turned], to its place in q, in the form of its kind.
void place_query(const StepContext& c, const AttentionSpec& a, const Row& row, int64_t head, float* turned) {
  const LatentSpec& dims = a.latent;
  const Buffers& b = c.buffers;
  const int64_t from = (row.in_wave * a.num_heads + head) * (dims.plain_dim + dims.rope_dim);
  c.kernels.convert(act_at(c, b.heads, from + dims.plain_dim), c.act, turned, DType::f32, dims.rope_dim);
  rotate(c, a.rope, rope_index(b, a.rope), row.token, turned);
  const int64_t width = row.prompt ? expanded_key_dim(a) : a.head_dim;
  const int64_t at = row.in_wave * query_stride(a) + head * width;
  if (row.prompt) {
    std::memset(act_at(c, b.q, at), 0, static_cast<size_t>(width - dims.rope_dim) * bytes_of(c.act));
    std::memcpy(act_at(c, b.q, at), act_at(c, b.heads, from), static_cast<size_t>(dims.plain_dim) * bytes_of(c.act));
  }
  c.kernels.convert(turned, DType::f32, act_at(c, b.q, at + width - dims.rope_dim), c.act, dims.rope_dim);
}

template <typename T>
void store(const StepContext& c, size_t layer, const PassSequence& sequence, int64_t position, const void* key) {
  std::byte* page = c.kv_pages + static_cast<size_t>(sequence.page_table[c.kv.page_index(layer, position)]) * c.kv.page_bytes;
  store_latent(static_cast<const T*>(key), c.spec.layers[layer].attention.head_dim, position % kPageTokens, page + c.kv.head_offset(layer, 0));
}

}  // namespace

void project_latent(const StepContext& c, size_t layer, const Wave& wave) {
  const AttentionSpec& a = c.spec.layers[layer].attention;
  const LatentSpec& dims = a.latent;
  const LayerWeights& w = c.weights.layers[layer];
  const Buffers& b = c.buffers;
  const int64_t m = wave.rows.size();
  const int64_t hidden = c.spec.hidden;
  const void* normed = act_at(c, b.normed, wave.rows.begin * hidden);
  project_queries(c, layer, normed, m);
  linear(c, {.x = normed, .x_dtype = c.act, .x_stride = hidden, .y = b.qkv, .y_dtype = DType::f32, .y_stride = a.head_dim}, w.kv_a, {}, m);
  const int64_t query_width = dims.plain_dim + dims.rope_dim;
  const HeadLinear absorb{.x = b.heads,
                          .x_stride = a.num_heads * query_width,
                          .x_head = query_width,
                          .row = 0,
                          .outputs = dims.kv_rank,
                          .k = dims.plain_dim,
                          .y = b.q,
                          .y_stride = query_stride(a),
                          .y_head = a.head_dim};
  for_generated(c, wave, [&](Range rows) { head_linear(c, layer, absorb, rows); });
  if (has_prompts(c, wave)) prepare_expansion(c, layer);
}

void place_latent(const StepContext& c, const Pass& pass, size_t layer, const Wave& wave) {
  const AttentionSpec& a = c.spec.layers[layer].attention;
  const LatentSpec& dims = a.latent;
  const LayerWeights& w = c.weights.layers[layer];
  const Buffers& b = c.buffers;
  const size_t rope = rope_index(b, a.rope);
  c.pool.parallel_for(wave.blocks.size(), [&](int64_t i, int worker) {
    const QueryBlock& block = b.query_blocks[wave.blocks.begin + i];
    const PassSequence& sequence = pass.sequences[static_cast<size_t>(block.sequence)];
    float* turned = scratch_of(c, worker);
    for (int64_t t = sequence.first_row + block.first, end = t + block.count; t < end; ++t) {
      const int64_t row = t - wave.rows.begin;
      float* key = b.qkv + row * a.head_dim;
      c.kernels.rms_norm({key, DType::f32, dims.kv_rank, w.kv_a_norm.data, w.kv_a_norm.dtype, key, DType::f32, dims.kv_rank, dims.kv_rank, kNormEps},
                         {0, 1});
      rotate(c, a.rope, rope, t, key + dims.kv_rank);
      c.kernels.convert(key, DType::f32, key, c.act, a.head_dim);  // in place: an element never moves up
      c.act == DType::f32 ? store<float>(c, layer, sequence, b.positions[t], key) : store<bf16>(c, layer, sequence, b.positions[t], key);
      for (int64_t head = 0; head < a.num_heads; ++head) place_query(c, a, {t, row, block.prompt}, head, turned);
    }
  });
}

void expand_values(const StepContext& c, size_t layer, const Wave& wave) {
  const AttentionSpec& a = c.spec.layers[layer].attention;
  const LatentSpec& dims = a.latent;
  const HeadLinear op{.x = c.buffers.attended,
                      .x_stride = attended_stride(a, c.act),
                      .x_head = dims.kv_rank,
                      .row = dims.plain_dim,
                      .outputs = dims.v_dim,
                      .k = dims.kv_rank,
                      .y = c.buffers.heads,
                      .y_stride = a.o_width(),
                      .y_head = dims.v_dim};
  for_generated(c, wave, [&](Range rows) { head_linear(c, layer, op, rows); });
}

void turn_key_heads(void* kv_b, DType dtype, const AttentionSpec& spec) {
  const LatentSpec& dims = spec.latent;
  const auto rows = static_cast<size_t>(dims.plain_dim);
  const auto cols = static_cast<size_t>(dims.kv_rank);
  const size_t element = bytes_of(dtype);
  std::vector<std::byte> block(rows * cols * element);
  auto* at = static_cast<std::byte*>(kv_b);
  for (int head = 0; head < spec.num_heads; ++head) {
    std::memcpy(block.data(), at, block.size());
    for (size_t r = 0; r < rows; ++r) {
      for (size_t k = 0; k < cols; ++k) std::memcpy(at + (k * rows + r) * element, block.data() + (r * cols + k) * element, element);
    }
    at += (rows + static_cast<size_t>(dims.v_dim)) * cols * element;
  }
}

}  // namespace moegen
