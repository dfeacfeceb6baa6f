#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "model/delta_attention.h"
#include "model/expanded_attention.h"
#include "model/latent_attention.h"
#include "model/linear.h"
#include "model/rope.h"
#include "model/steps.h"

namespace moegen {
namespace {

// Position p in float times the frequency in float, as the reference implementations round it; cosine and sine of that, exactly.
void fill_angles(const StepContext& c, int64_t num_tokens) {
  const Buffers& b = c.buffers;
  for (size_t r = 0; r < b.ropes.size(); ++r) {
    const std::vector<float>& f = c.frequencies[r];
    const auto pairs = static_cast<int64_t>(f.size());
    for_blocks(c, num_tokens, 16, [&](Range rows, int) {
      for (int64_t t = rows.begin; t < rows.end; ++t) {
        for (int64_t i = 0; i < pairs; ++i) {
          const double angle = static_cast<float>(b.positions[t]) * f[static_cast<size_t>(i)];
          b.rope_cos[r][t * pairs + i] = static_cast<float>(std::cos(angle) * b.ropes[r].amplitude);
          b.rope_sin[r][t * pairs + i] = static_cast<float>(std::sin(angle) * b.ropes[r].amplitude);
        }
      }
    });
  }
}

void fill_query_blocks(const StepContext& c, const Pass& pass) {
  const Buffers& b = c.buffers;
  // Latent attention has a form for each kind of token. Elsewhere a page's tokens stay together: a token's value is stored with its neighbour's.
  const bool latent = std::any_of(c.spec.layers.begin(), c.spec.layers.end(), [](const LayerSpec& layer) { return layer.attention.is_latent(); });
  const int64_t wave_tokens = c.sizes.wave_tokens;
  int64_t blocks = 0;
  int64_t waves = 0;
  for (size_t s = 0; s < pass.sequences.size(); ++s) {
    b.block_begin[s] = blocks;
    const PassSequence& seq = pass.sequences[s];
    for (int32_t t = 0; t < seq.num_tokens; ++t) b.positions[seq.first_row + t] = seq.first_position + t;
    for (int64_t t = 0; t < seq.num_tokens;) {  // up to the end of a page: no two blocks of a wave write to one
      const int64_t row = seq.first_row + t;
      if (row == waves * wave_tokens) b.wave_begin[waves++] = blocks;
      const int64_t room = std::min(kPageTokens - (seq.first_position + t) % kPageTokens, waves * wave_tokens - row);
      const int64_t prompt_left = latent ? seq.prompt_len - seq.first_position - t : 0;
      const bool prompt = prompt_left > 0;
      const int64_t count = std::min({room, seq.num_tokens - t, prompt ? prompt_left : room});
      b.query_blocks[blocks++] = {static_cast<int32_t>(s), static_cast<int32_t>(t), static_cast<int32_t>(count), prompt};
      t += count;
    }
  }
  b.block_begin[pass.sequences.size()] = blocks;
  b.wave_begin[waves] = blocks;
}

void clamp(float* x, int64_t count, float limit) {
  for (int64_t i = 0; i < count; ++i) x[i] = std::clamp(x[i], -limit, limit);
}

// Norms of q and k of one token, in place.
void norm_heads(const StepContext& c, const AttentionSpec& a, const LayerWeights& w, float* q, float* k) {
  const bool whole = a.qk_norm == AttentionSpec::QkNorm::whole;
  const auto apply = [&](float* x, int heads, int64_t step, const TensorView& weight) {
    const int64_t width = whole ? static_cast<int64_t>(heads) * a.head_dim : a.head_dim;
    c.kernels.rms_norm({x, DType::f32, step, weight.data, weight.dtype, x, DType::f32, step, width, c.spec.norm_eps, c.spec.norm_offset},
                       {0, whole ? 1 : heads});
  };
  apply(q, a.num_heads, a.q_outputs() / a.num_heads, w.q_norm);
  apply(k, a.num_kv_heads, a.head_dim, w.k_norm);
}

struct Row {
  int64_t token;    // of the pass
  int64_t in_wave;  // of it
  const PassSequence* sequence;
};

// kv: keys of all heads, then values, of one token.
template <typename S, typename T>
void store_heads(const StepContext& c, size_t layer, const T* kv, int64_t slot, std::byte* page) {
  const AttentionSpec& a = c.spec.layers[layer].attention;
  for (int head = 0; head < a.num_kv_heads; ++head, kv += a.head_dim)
    store_kv<S>(kv, kv + a.kv_width(), a.head_dim, slot, page + c.kv.head_offset(layer, head));
}

template <typename T>
void store_token(const StepContext& c, size_t layer, const void* kv, int64_t slot, std::byte* page) {
  if (c.kv.dtype == DType::i8) {
    store_heads<int8_t>(c, layer, static_cast<const T*>(kv), slot, page);
  } else {
    store_heads<T>(c, layer, static_cast<const T*>(kv), slot, page);
  }
}

// One token of qkv: norm, clip, rope; q -> buffer, k and v -> page.
void finish_token(const StepContext& c, size_t layer, const Row& row, size_t rope) {
  const AttentionSpec& a = c.spec.layers[layer].attention;
  const Buffers& b = c.buffers;
  const int64_t q_step = a.q_outputs() / a.num_heads;
  float* q = b.qkv + row.in_wave * (a.q_outputs() + 2 * a.kv_width());
  float* k = q + a.q_outputs();
  if (a.k_is_v) std::copy_n(k, a.kv_width(), k + a.kv_width());
  const bool norms = a.qk_norm != AttentionSpec::QkNorm::none;
  if (norms && !a.rope_first) norm_heads(c, a, c.weights.layers[layer], q, k);
  if (a.clip_qkv > 0) clamp(q, a.q_outputs() + 2 * a.kv_width(), a.clip_qkv);
  for (int head = 0; head < a.num_heads; ++head) rotate(c, a.rope, rope, row.token, q + head * q_step);
  for (int head = 0; head < a.num_kv_heads; ++head) rotate(c, a.rope, rope, row.token, k + static_cast<int64_t>(head) * a.head_dim);
  if (norms && a.rope_first) norm_heads(c, a, c.weights.layers[layer], q, k);
  if (a.v_norm) {
    float* v = k + a.kv_width();
    c.kernels.rms_norm({.x = v, .x_stride = a.head_dim, .y = v, .y_stride = a.head_dim, .width = a.head_dim, .eps = c.spec.norm_eps},
                       {0, a.num_kv_heads});
  }
  const int64_t position = b.positions[row.token];
  if (a.tuning != 0) {
    const float factor = 1 + a.tuning * std::log(1 + std::floor(static_cast<float>(position + 1) / a.tuning_step));
    for (int64_t i = 0; i < a.q_outputs(); ++i) q[i] *= factor;
  }
  for (int head = 0; head < a.num_heads; ++head) {
    c.kernels.convert(q + head * q_step, DType::f32, act_at(c, b.q, row.in_wave * a.q_width() + int64_t{head} * a.head_dim), c.act, a.head_dim);
  }
  c.kernels.convert(k, DType::f32, k, c.act, 2 * a.kv_width());  // in place: an element never moves up
  const int64_t page = row.sequence->page_table[c.kv.page_index(layer, position)];
  std::byte* at = c.kv_pages + static_cast<size_t>(page) * c.kv.page_bytes;
  if (c.act == DType::f32) {
    store_token<float>(c, layer, k, position % kPageTokens, at);
  } else {
    store_token<bf16>(c, layer, k, position % kPageTokens, at);
  }
}

// attended *= sigmoid(gate), which project_qkv left in qkv behind each head of q.
void gate_attended(const StepContext& c, const AttentionSpec& a, int64_t num_tokens) {
  const int64_t stride = a.q_outputs() + 2 * a.kv_width();
  for_blocks(c, num_tokens, 4, [&](Range rows, int worker) {
    float* x = scratch_of(c, worker);
    for (int64_t t = rows.begin; t < rows.end; ++t) {
      for (int head = 0; head < a.num_heads; ++head) {
        void* attended = act_at(c, c.buffers.attended, t * a.q_width() + int64_t{head} * a.head_dim);
        const float* gate = c.buffers.qkv + t * stride + (2 * int64_t{head} + 1) * a.head_dim;
        c.kernels.convert(attended, c.act, x, DType::f32, a.head_dim);
        for (int i = 0; i < a.head_dim; ++i) x[i] /= 1 + std::exp(-gate[i]);
        c.kernels.convert(x, DType::f32, attended, c.act, a.head_dim);
      }
    }
  });
}

// x [hidden] += the learned vector of a position.
void add_position(const StepContext& c, int64_t position, float* x) {
  const TensorView& p = c.weights.positions;
  const auto at = static_cast<size_t>((c.spec.first_position + position) * p.cols);
  const void* row = static_cast<const std::byte*>(p.data) + at * bytes_of(p.dtype);
  if (p.dtype == DType::f16) {
    for (int64_t i = 0; i < p.cols; ++i) x[i] += to_float(static_cast<const f16*>(row)[i]);
  } else {
    c.kernels.axpy(x, 1, row, p.dtype, p.cols);
  }
}

}  // namespace

void lay_out_pass(const StepContext& c, const Pass& pass) {
  fill_query_blocks(c, pass);
  fill_angles(c, static_cast<int64_t>(pass.tokens.size()));
}

void begin_pass(const StepContext& c, const Pass& pass) {
  const Buffers& b = c.buffers;
  lay_out_pass(c, pass);
  const auto num_tokens = static_cast<int64_t>(pass.tokens.size());
  const TensorView& e = c.weights.embedding;
  const float scale = c.spec.embedding_scale_in(c.act);
  for_blocks(c, num_tokens, 16, [&](Range rows, int) {
    for (int64_t t = rows.begin; t < rows.end; ++t) {
      const auto* from = static_cast<const std::byte*>(e.data) +
                         static_cast<size_t>(pass.tokens[static_cast<size_t>(t)]) * static_cast<size_t>(e.cols) * bytes_of(e.dtype);
      float* to = b.hidden + t * e.cols;
      c.kernels.convert(from, e.dtype, to, DType::f32, e.cols);
      if (scale != 1) std::for_each(to, to + e.cols, [&](float& x) { x *= scale; });
      if (c.weights.positions) add_position(c, b.positions[t], to);
    }
  });
}

Wave wave_of(const StepContext& c, int64_t num_tokens, int64_t i) {
  const int64_t first = i * c.sizes.wave_tokens;
  return {{first, std::min(num_tokens, first + c.sizes.wave_tokens)}, {c.buffers.wave_begin[i], c.buffers.wave_begin[i + 1]}};
}

void project_qkv(const StepContext& c, const Pass& pass, size_t layer, const Wave& wave) {
  const AttentionSpec& a = c.spec.layers[layer].attention;
  const LayerWeights& w = c.weights.layers[layer];
  const Buffers& b = c.buffers;
  const int64_t m = wave.rows.size();
  const int64_t hidden = c.spec.hidden;
  const float* x = b.hidden + wave.rows.begin * hidden;
  void* normed = act_at(c, b.normed, wave.rows.begin * hidden);
  norm(c, {.x = x, .x_dtype = DType::f32, .x_stride = hidden, .y = normed, .y_dtype = c.act, .y_stride = hidden}, w.attention_norm, m,
       w.attention_norm_bias);
  if (a.is_latent()) {
    project_latent(c, layer, wave);
    return place_qkv(c, pass, layer, wave);
  }
  if (a.is_linear()) return project_delta(c, layer, wave);
  const int64_t stride = a.q_outputs() + 2 * a.kv_width();
  const auto project = [&](const TensorView& weight, const TensorView& bias, int64_t at) {
    linear(c, {.x = normed, .x_dtype = c.act, .x_stride = hidden, .y = b.qkv + at, .y_dtype = DType::f32, .y_stride = stride}, weight, bias, m);
  };
  project(w.q, w.q_bias, 0);
  project(w.k, w.k_bias, a.q_outputs());
  if (!a.k_is_v) project(w.v, w.v_bias, a.q_outputs() + a.kv_width());
  place_qkv(c, pass, layer, wave);
}

void place_qkv(const StepContext& c, const Pass& pass, size_t layer, const Wave& wave) {
  const AttentionSpec& a = c.spec.layers[layer].attention;
  if (a.is_latent()) return place_latent(c, pass, layer, wave);
  const Buffers& b = c.buffers;
  const size_t rope = rope_index(b, a.rope);
  c.pool.parallel_for(wave.blocks.size(), [&](int64_t i, int) {
    const QueryBlock& block = b.query_blocks[wave.blocks.begin + i];
    const PassSequence& seq = pass.sequences[static_cast<size_t>(block.sequence)];
    const int64_t first = seq.first_row + block.first;
    for (int64_t t = first; t < first + block.count; ++t) finish_token(c, layer, {t, t - wave.rows.begin, &seq}, rope);
  });
}

void attend(const StepContext& c, const Pass& pass, size_t layer, const Wave& wave, int64_t first, int64_t last) {
  const AttentionSpec& a = c.spec.layers[layer].attention;
  if (a.is_linear()) return attend_delta(c, pass, layer, wave, first, last);
  const Buffers& b = c.buffers;
  const int64_t begin = std::max(b.block_begin[first], wave.blocks.begin);
  const TensorView& sinks = c.weights.layers[layer].sinks;
  if (sinks) c.kernels.convert(sinks.data, sinks.dtype, b.sinks, DType::f32, a.num_heads);
  // What a generated token's attention to all heads reads first.
  const auto first_read = [&](const QueryBlock& block) {
    const PassSequence& seq = pass.sequences[static_cast<size_t>(block.sequence)];
    const int32_t page = seq.page_table[c.kv.page_index(layer, first_seen(seq.first_position + block.first, a.window, a.chunk))];
    return c.kv_pages + static_cast<size_t>(page) * c.kv.page_bytes + c.kv.head_offset(layer, 0);
  };
  // Query heads [head, head + count) of a block, all of one KV head or all those of some; `next`: what the thread reads after it, or null.
  const auto run = [&](const QueryBlock& block, int head, int count, const std::byte* next, int worker) {
    const PassSequence& seq = pass.sequences[static_cast<size_t>(block.sequence)];
    const int64_t row = seq.first_row + block.first - wave.rows.begin;
    const int group = a.num_heads / a.num_kv_heads;
    const int64_t out_width = attended_stride(a, c.act);
    c.kernels.attention({.q = act_at(c, b.q, row * query_stride(a) + int64_t{head} * a.head_dim),
                         .q_stride = query_stride(a),
                         .out = act_at(c, b.attended, row * out_width + int64_t{head} * a.value_dim()),
                         .out_stride = out_width,
                         .dtype = c.act,
                         .kv_dtype = c.kv.dtype,
                         .kv_heads = static_cast<int>(ceil_div(count, group)),
                         .heads = std::min(count, group),
                         .head_dim = a.head_dim,
                         .latent_dim = a.latent.kv_rank,
                         .num_queries = block.count,
                         .first_position = seq.first_position + block.first,
                         .pages = c.kv_pages,
                         .page_bytes = c.kv.page_bytes,
                         .page_table = seq.page_table + c.kv.page_index(layer, 0),
                         .table_stride = c.kv.num_groups(),
                         .kv_offset = c.kv.head_offset(layer, head / group),
                         .kv_head_bytes = c.kv.head_bytes[layer],
                         .window = a.window,
                         .chunk = a.chunk,
                         .scale = a.scale,
                         .sinks = sinks ? b.sinks + head : nullptr,
                         .scratch = scratch_of(c, worker),
                         .next = next});
  };
  // A generated token goes through all KV heads of a page as they lie there, unless threads would be left without work. All heads of latent
  // attention share their pages: few of them would turn each one again and again.
  const int64_t end = std::min(b.block_begin[last], wave.blocks.end);
  const int64_t blocks = end - begin;
  const auto here = [&](const QueryBlock& block) { return !a.is_latent() || !block.prompt; };
  const int64_t counted = std::count_if(b.query_blocks + begin, b.query_blocks + end, here);
  if (counted < blocks) attend_prompts(c, pass, layer, wave, {begin, end});
  if (counted == 0) return;
  const bool few = counted < 4 * c.pool.size();
  const int group = a.num_heads / a.num_kv_heads;
  const int latent_heads = few ? static_cast<int>(ceil_div(a.num_heads, 2 * c.pool.size())) : a.num_heads;
  const int together = a.is_latent() ? latent_heads : group * (few ? 1 : std::clamp(kAttentionRowsInFlight / group, 1, a.num_kv_heads));
  const int64_t parts = ceil_div(a.num_heads, together);
  // Some whole blocks at a time, so that a thread knows which comes next.
  const int64_t at_a_time = parts > 1 ? 1 : std::clamp<int64_t>(blocks / (8 * c.pool.size()), 1, 16);
  for_blocks(c, blocks * parts, at_a_time, [&](Range some, int worker) {
    for (int64_t i = some.begin; i < some.end; ++i) {
      const QueryBlock* block = b.query_blocks + begin + i / parts;
      const int first_head = static_cast<int>(i % parts) * together;
      const std::byte* next = i + 1 < some.end ? first_read(block[1]) : nullptr;
      if (here(*block)) run(*block, first_head, std::min(together, a.num_heads - first_head), next, worker);
    }
  });
}

void project_out(const StepContext& c, size_t layer, const Wave& wave) {
  const AttentionSpec& a = c.spec.layers[layer].attention;
  const LayerWeights& w = c.weights.layers[layer];
  const Buffers& b = c.buffers;
  const int64_t hidden = c.spec.hidden;
  const int64_t m = wave.rows.size();
  float* x = b.hidden + wave.rows.begin * hidden;
  void* normed = act_at(c, b.normed, wave.rows.begin * hidden);
  const bool latent = a.is_latent();
  float* branch = c.spec.layers[layer].branch_norms ? b.branch + wave.rows.begin * hidden : nullptr;
  if (latent) expand_values(c, layer, wave);
  if (a.output_gate) gate_attended(c, a, m);
  linear(c,
         {.x = latent ? b.heads : b.attended,
          .x_dtype = c.act,
          .x_stride = w.o.cols,
          .y = branch != nullptr ? branch : x,
          .y_dtype = DType::f32,
          .y_stride = hidden,
          .add = branch == nullptr,
          .scale = c.spec.residual_scale},
         w.o, w.o_bias, m);
  if (branch != nullptr) add_normed(c, w.attention_out_norm, wave.rows);
  if (c.spec.layers[layer].mlp.router.own_norm) return;
  norm(c, {.x = x, .x_dtype = DType::f32, .x_stride = hidden, .y = normed, .y_dtype = c.act, .y_stride = hidden}, w.mlp_norm, m, w.mlp_norm_bias);
}

}  // namespace moegen
