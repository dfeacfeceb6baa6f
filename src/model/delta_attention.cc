#include "model/delta_attention.h"

#include <array>
#include <cmath>
#include <span>

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

// One key head of a sequence, with its value heads: tokens [first, last) of the pass, one after the other.
void run_head(const StepContext& c, const PassSequence& sequence, size_t layer, int head, const Wave& wave, Range tokens, int worker) {
  const AttentionSpec& a = c.spec.layers[layer].attention;
  const DeltaSpec& d = a.delta;
  const DeltaWeights& w = c.weights.layers[layer].delta;
  const Columns at = columns_of(d);
  const int64_t values = int64_t{d.group()} * d.value_dim;
  const int64_t width = 2 * d.key_dim + values;
  const int64_t state_size = int64_t{d.key_dim} * d.value_dim;
  const std::array stretches{Stretch{int64_t{head} * d.key_dim, at.q + head * at.key_step, d.key_dim},
                             Stretch{d.key_width() + int64_t{head} * d.key_dim, at.k + head * at.key_step, d.key_dim},
                             Stretch{2 * d.key_width() + head * values, at.v + head * at.value_step, values}};

  float* taps = scratch_of(c, worker);
  float* mixed = taps + d.taps * width;  // q, k and v behind the convolution
  float* out = mixed + width;
  load_taps(c, w.conv, stretches, d.taps, width, taps);

  float* layer_state = c.states + sequence.state * c.kv.state_floats + c.kv.state_offset[layer];
  float* inputs = layer_state + head * d.taps * width;
  float* states = layer_state + int64_t{d.taps} * d.channels() + head * d.group() * state_size;
  for (int64_t t = tokens.begin; t < tokens.end; ++t) {
    const int64_t position = c.buffers.positions[t];
    if (position == 0) {
      std::fill_n(inputs, d.taps * width, 0.0F);
      std::fill_n(states, d.group() * state_size, 0.0F);
    }
    const float* row = c.buffers.qkv + (t - wave.rows.begin) * d.projected_width();
    float* input = inputs + position % d.taps * width;
    for (const Stretch& s : stretches) input = std::copy_n(row + s.column, s.count, input);
    std::fill_n(mixed, width, 0.0F);
    for (int tap = 0; tap < d.taps; ++tap) {  // the oldest first: that of position + 1 - taps
      const float* then = inputs + (position + 1 + tap) % d.taps * width;
      const float* weights = taps + tap * width;
      for (int64_t i = 0; i < width; ++i) mixed[i] += weights[i] * then[i];
    }
    c.kernels.silu_mul(mixed, nullptr, DType::f32, width);
    l2_normalise(mixed, d.key_dim, 1 / std::sqrt(static_cast<float>(d.key_dim)));
    l2_normalise(mixed + d.key_dim, d.key_dim, 1);
    for (int j = 0; j < d.group(); ++j) {
      const int64_t value_head = int64_t{head} * d.group() + j;
      const float step = row[at.a + head * at.scalar_step + j] + float_at(c, w.dt_bias, value_head);
      const float softplus = step > 20 ? step : std::log1p(std::exp(step));
      c.kernels.delta_step({.state = states + j * state_size,
                            .query = mixed,
                            .key = mixed + d.key_dim,
                            .value = mixed + 2 * d.key_dim + int64_t{j} * d.value_dim,
                            .decay = std::exp(-std::exp(float_at(c, w.a_log, value_head)) * softplus),
                            .beta = 1 / (1 + std::exp(-row[at.b + head * at.scalar_step + j])),
                            .out = out,
                            .key_dim = d.key_dim,
                            .value_dim = d.value_dim});
      c.kernels.rms_norm({.x = out, .weight = w.norm.data, .weight_dtype = w.norm.dtype, .y = out, .width = d.value_dim, .eps = c.spec.norm_eps},
                         {0, 1});
      float* gate = out + d.value_dim;
      std::copy_n(row + at.z + head * at.value_step + int64_t{j} * d.value_dim, d.value_dim, gate);
      c.kernels.silu_mul(gate, out, DType::f32, d.value_dim);
      c.kernels.convert(gate, DType::f32, act_at(c, c.buffers.attended, (t - wave.rows.begin) * a.q_width() + value_head * d.value_dim), c.act,
                        d.value_dim);
    }
  }
}

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
    run_head(c, sequence, layer, static_cast<int>(i % heads), wave, tokens, worker);
  });
}

}  // namespace moegen
