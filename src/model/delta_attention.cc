#include "model/delta_attention.h"

#include <array>
#include <cmath>
#include <span>

#include "model/delta_state.h"
#include "model/linear.h"

namespace moegen {
namespace {

constexpr float kNormEps = 1e-6F;  // of q and k, added to the sum of their squares

// Where a row of qkv has what belongs to a key head: the first one's, and the steps from one to the next.
struct Columns {
  int64_t q, k, v, z, b, a;
  int64_t key_step, value_step, scalar_step;
};

Columns columns_of(const DeltaSpec& d) {
  const int64_t values = int64_t{d.group()} * d.value_dim;
  const int64_t scalars = d.channels() + d.value_width();
  if (d.grouped) {
    const int64_t step = 2 * d.key_dim + 2 * values;
    return {0, d.key_dim, 2 * d.key_dim, 2 * d.key_dim + values, scalars, scalars + d.group(), step, step, 2 * d.group()};
  }
  return {0, d.key_width(), 2 * d.key_width(), d.channels(), scalars, scalars + d.value_heads, d.key_dim, values, d.group()};
}

float float_at(const StepContext& c, const TensorView& t, int64_t i) {
  float x = 0;
  c.kernels.convert(static_cast<const std::byte*>(t.data) + static_cast<size_t>(i) * bytes_of(t.dtype), t.dtype, &x, DType::f32, 1);
  return x;
}

// What one key head's channels are in q, k and v: three stretches.
struct Stretch {
  int64_t channel;  // of the convolution
  int64_t column;   // of qkv
  int64_t count;
};

void l2_normalise(float* x, int64_t count, float factor) {
  float squares = 0;
  for (int64_t i = 0; i < count; ++i) squares += x[i] * x[i];
  factor /= std::sqrt(squares + kNormEps);
  for (int64_t i = 0; i < count; ++i) x[i] *= factor;
}

// The weights of the convolution for the channels of a key head: [taps, width].
void load_taps(const StepContext& c, const TensorView& conv, std::span<const Stretch> stretches, int taps, int64_t width, float* out) {
  int64_t i = 0;
  for (const Stretch& s : stretches) {
    for (int64_t channel = s.channel; channel < s.channel + s.count; ++channel, ++i) {
      for (int t = 0; t < taps; ++t) out[t * width + i] = float_at(c, conv, channel * taps + t);
    }
  }
}

// One key head of a sequence in a layer, with its value heads.
class DeltaHead {
 public:
  DeltaHead(const StepContext& c, const PassSequence& sequence, size_t layer, int head, const Wave& wave, int worker)
      : c_(c),
        d_(c.spec.layers[layer].attention.delta),
        w_(c.weights.layers[layer].delta),
        at_(columns_of(d_)),
        kept_(d_),
        head_(head),
        first_row_(wave.rows.begin),
        values_(int64_t{d_.group()} * d_.value_dim),
        stretches_{Stretch{int64_t{head} * d_.key_dim, at_.q + head * at_.key_step, d_.key_dim},
                   Stretch{d_.key_width() + int64_t{head} * d_.key_dim, at_.k + head * at_.key_step, d_.key_dim},
                   Stretch{2 * d_.key_width() + head * values_, at_.v + head * at_.value_step, values_}},
        inputs_(c.states + sequence.state * c.kv.state_floats + c.kv.state_offset[layer] + head * kept_.head_floats),
        taps_(scratch_of(c, worker)),
        mixed_(taps_ + d_.taps * kept_.width),
        queries_(mixed_ + kept_.width),
        given_(queries_ + kDeltaChunk * d_.key_dim),
        out_(given_ + kDeltaChunk * values_),
        decay_(out_ + kDeltaChunk * values_),
        beta_(decay_ + kDeltaChunk * d_.group()),
        gate_(beta_ + kDeltaChunk * d_.group()) {
    load_taps(c, w_.conv, stretches_, d_.taps, kept_.width, taps_);
  }

  // Rows of the pass, chunk by chunk.
  void run(Range tokens) {
    for (int64_t begin = tokens.begin; begin < tokens.end;) {
      const int64_t first = c_.buffers.positions[begin] % kDeltaChunk;
      const int64_t end = std::min(tokens.end, begin + kDeltaChunk - first);
      for (int64_t t = begin; t < end; ++t) prepare(t, first + t - begin, t - begin);
      c_.kernels.delta_tokens({.first = static_cast<int>(first),
                               .count = static_cast<int>(end - begin),
                               .heads = d_.group(),
                               .key_dim = d_.key_dim,
                               .value_dim = d_.value_dim,
                               .state = inputs_ + kept_.state,
                               .keys = inputs_ + kept_.keys,
                               .changes = inputs_ + kept_.changes,
                               .decays = inputs_ + kept_.decays,
                               .queries = queries_,
                               .values = given_,
                               .decay = decay_,
                               .beta = beta_,
                               .out = out_});
      for (int64_t t = begin; t < end; ++t) finish(t, out_ + (t - begin) * values_);
      begin = end;
    }
  }

 private:
  [[nodiscard]] const float* row_of(int64_t t) const { return c_.buffers.qkv + (t - first_row_) * d_.projected_width(); }

  // The convolution and what comes behind it: token `slot` of its chunk, `i` of those that are computed together.
  void prepare(int64_t t, int64_t slot, int64_t i) {
    const int64_t position = c_.buffers.positions[t];
    if (position == 0) std::fill_n(inputs_, kept_.keys, 0.0F);  // and the state
    const float* row = row_of(t);
    float* input = inputs_ + position % d_.taps * kept_.width;
    for (const Stretch& s : stretches_) input = std::copy_n(row + s.column, s.count, input);
    std::fill_n(mixed_, kept_.width, 0.0F);
    for (int tap = 0; tap < d_.taps; ++tap) {  // the oldest first: that of position + 1 - taps
      const float* then = inputs_ + (position + 1 + tap) % d_.taps * kept_.width;
      const float* weights = taps_ + tap * kept_.width;
      for (int64_t k = 0; k < kept_.width; ++k) mixed_[k] += weights[k] * then[k];
    }
    c_.kernels.silu_mul(mixed_, nullptr, DType::f32, kept_.width);
    l2_normalise(mixed_, d_.key_dim, 1 / std::sqrt(static_cast<float>(d_.key_dim)));
    l2_normalise(mixed_ + d_.key_dim, d_.key_dim, 1);
    std::copy_n(mixed_, d_.key_dim, queries_ + i * d_.key_dim);
    std::copy_n(mixed_ + d_.key_dim, d_.key_dim, inputs_ + kept_.keys + slot * d_.key_dim);
    std::copy_n(mixed_ + 2 * d_.key_dim, values_, given_ + i * values_);
    for (int j = 0; j < d_.group(); ++j) {
      const int64_t value_head = int64_t{head_} * d_.group() + j;
      const float step = row[at_.a + head_ * at_.scalar_step + j] + float_at(c_, w_.dt_bias, value_head);
      const float softplus = step > 20 ? step : std::log1p(std::exp(step));
      decay_[i * d_.group() + j] = std::exp(-std::exp(float_at(c_, w_.a_log, value_head)) * softplus);
      beta_[i * d_.group() + j] = 1 / (1 + std::exp(-row[at_.b + head_ * at_.scalar_step + j]));
    }
  }

  // out [group, value_dim]: norm, gate -> attended.
  void finish(int64_t t, float* out) {
    for (int j = 0; j < d_.group(); ++j, out += d_.value_dim) {
      const int64_t value_head = int64_t{head_} * d_.group() + j;
      c_.kernels.rms_norm({.x = out, .weight = w_.norm.data, .weight_dtype = w_.norm.dtype, .y = out, .width = d_.value_dim, .eps = c_.spec.norm_eps},
                          {0, 1});
      std::copy_n(row_of(t) + at_.z + head_ * at_.value_step + int64_t{j} * d_.value_dim, d_.value_dim, gate_);
      c_.kernels.silu_mul(gate_, out, DType::f32, d_.value_dim);
      const int64_t column = (t - first_row_) * d_.value_width() + value_head * d_.value_dim;
      c_.kernels.convert(gate_, DType::f32, act_at(c_, c_.buffers.attended, column), c_.act, d_.value_dim);
    }
  }

  const StepContext& c_;
  const DeltaSpec& d_;
  const DeltaWeights& w_;
  const Columns at_;
  const DeltaState kept_;
  int head_;
  int64_t first_row_;  // of the wave
  int64_t values_;     // of a token: of all value heads
  std::array<Stretch, 3> stretches_;
  float* inputs_;   // what is kept
  float* taps_;     // [taps, width]
  float* mixed_;    // [width] q, k and v behind the convolution
  float* queries_;  // [kDeltaChunk, key_dim]
  float* given_;    // [kDeltaChunk, group, value_dim]
  float* out_;      // likewise
  float* decay_;    // [kDeltaChunk, group]
  float* beta_;     // likewise
  float* gate_;     // [value_dim]
};

}  // namespace

void project_delta(const StepContext& c, size_t layer, const Wave& wave) {
  const DeltaSpec& d = c.spec.layers[layer].attention.delta;
  const DeltaWeights& w = c.weights.layers[layer].delta;
  const int64_t hidden = c.spec.hidden;
  int64_t at = 0;
  for (const TensorView* weight : {&w.qkv, &w.z, &w.b, &w.a}) {
    if (!*weight) continue;
    linear(c,
           {.x = act_at(c, c.buffers.normed, wave.rows.begin * hidden),
            .x_dtype = c.act,
            .x_stride = hidden,
            .y = c.buffers.qkv + at,
            .y_dtype = DType::f32,
            .y_stride = d.projected_width()},
           *weight, {}, wave.rows.size());
    at += weight->rows;
  }
}

void attend_delta(const StepContext& c, const Pass& pass, size_t layer, const Wave& wave, int64_t first, int64_t last) {
  const int heads = c.spec.layers[layer].attention.delta.key_heads;
  c.pool.parallel_for((last - first) * heads, [&](int64_t i, int worker) {
    const PassSequence& sequence = pass.sequences[static_cast<size_t>(first + i / heads)];
    const Range tokens{std::max<int64_t>(sequence.first_row, wave.rows.begin),
                       std::min<int64_t>(sequence.first_row + sequence.num_tokens, wave.rows.end)};
    DeltaHead(c, sequence, layer, static_cast<int>(i % heads), wave, worker).run(tokens);
  });
}

}  // namespace moegen
