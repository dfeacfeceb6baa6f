#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/check.h"
#include "base/checked.h"
#include "kernels/functions.h"

namespace moegen {
namespace {

double read(const void* p, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::f32:
      return static_cast<const float*>(p)[i];
    case DType::bf16:
      return to_float(static_cast<const bf16*>(p)[i]);
    case DType::f16:
      return to_float(static_cast<const f16*>(p)[i]);
    default:
      MOEGEN_CHECK(false);
  }
}

void write(void* p, DType dtype, int64_t i, double value) {
  const auto x = static_cast<float>(value);
  if (dtype == DType::f32) {
    static_cast<float*>(p)[i] = x;
  } else {
    static_cast<bf16*>(p)[i] = to_bf16(x);
  }
}

// Element k of row n of what is expanded.
float expanded(const Gemm& op, int64_t n, int64_t k) {
  const int64_t at = n * op.k + k;
  if (op.w_dtype == DType::f4) {
    const uint32_t pair = static_cast<const f4_pair*>(op.w)[at / 2].bits;
    return f4_to_float(at % 2 == 0 ? pair & 15U : pair >> 4) * to_float(static_cast<const f8_e8m0*>(op.w_scales)[at / kF4Block]);
  }
  if (op.w_dtype == DType::f8_e4m3) {
    const float* scales = static_cast<const float*>(op.w_scales) + n / op.w_block_rows * ceil_div(op.k, op.w_group);
    return to_float(static_cast<const f8_e4m3*>(op.w)[at]) * scales[k / op.w_group];
  }
  const bool half = op.w_dtype == DType::i4;
  MOEGEN_CHECK(half || op.w_dtype == DType::u8);
  const uint32_t byte = static_cast<const uint8_t*>(op.w)[half ? at / 2 : at];
  const int code = static_cast<int>(!half ? byte : at % 2 == 0 ? byte & 15U : byte >> 4);
  const int64_t group = at / op.w_group;
  const int zero = op.w_zeros != nullptr ? op.w_zeros[group] : half ? 8 : 128;
  return static_cast<float>(code - zero) * static_cast<float>(read(op.w_scales, op.w_scale_dtype, group));
}

// Element k of row n of the weights, as x's type has it where it is expanded.
double weight(const Gemm& op, int64_t n, int64_t k) {
  n = op.w_first + n * op.w_step;
  const bool plain = op.w_dtype == DType::f32 || op.w_dtype == DType::bf16 || op.w_dtype == DType::f16;
  if (plain) return read(op.w, op.w_dtype, n * op.k + k);
  const float value = expanded(op, n, k);
  return static_cast<double>(op.x_dtype == DType::bf16 ? to_float(to_bf16(value)) : value);
}

void gemm(const Gemm& op, Range rows, Range cols) {
  for (int64_t i = rows.begin; i < rows.end; ++i) {
    const int64_t row = op.rows != nullptr ? op.rows[i] : i;
    for (int64_t n = cols.begin; n < cols.end; ++n) {
      double sum = 0;
      for (int64_t k = 0; k < op.k; ++k) sum += read(op.x, op.x_dtype, row * op.x_stride + k) * weight(op, n, k);
      if (op.bias != nullptr) sum += read(op.bias, op.bias_dtype, n);
      sum *= static_cast<double>(op.scale);
      if (op.add) sum += read(op.y, op.y_dtype, i * op.y_stride + n);
      write(op.y, op.y_dtype, i * op.y_stride + n, sum);
    }
  }
}

void rms_norm(const RmsNorm& op, Range rows) {
  for (int64_t i = rows.begin; i < rows.end; ++i) {
    double squares = 0;
    for (int64_t k = 0; k < op.width; ++k) {
      const double x = read(op.x, op.x_dtype, i * op.x_stride + k);
      squares += x * x;
    }
    const double factor = 1 / std::sqrt(squares / static_cast<double>(op.width) + static_cast<double>(op.eps));
    for (int64_t k = 0; k < op.width; ++k) {
      write(op.y, op.y_dtype, i * op.y_stride + k,
            read(op.x, op.x_dtype, i * op.x_stride + k) * factor *
                (op.weight == nullptr ? 1.0 : read(op.weight, op.weight_dtype, k) + static_cast<double>(op.offset)));
    }
  }
}

void rotate(float* head, const float* cos, const float* sin, int64_t dim) {
  for (int64_t i = 0; i < dim / 2; ++i) {
    const float a = head[i];
    const float b = head[i + dim / 2];
    head[i] = a * cos[i] - b * sin[i];
    head[i + dim / 2] = b * cos[i] + a * sin[i];
  }
}

// One query, one of its heads: softmax(scale * q k^T) v over the keys it sees, in one piece.
void attend(const Attention& op, int64_t query, int head) {
  const int64_t q_at = query * op.q_stride + static_cast<int64_t>(head) * op.head_dim;
  const int64_t out_at = query * op.out_stride + static_cast<int64_t>(head) * op.value_dim();
  const int64_t last = op.first_position + query;
  const int64_t first = first_seen(last, op.window, op.chunk);
  const auto kv = [&](int64_t p) {
    return op.pages + static_cast<size_t>(op.page_table[p / kPageTokens * op.table_stride]) * op.page_bytes + op.kv_offset +
           static_cast<size_t>(head / op.heads) * op.kv_head_bytes;
  };
  const auto element = [&](int64_t p, int64_t index, int64_t scale) {
    if (op.kv_dtype != DType::i8) return read(kv(p), op.kv_dtype, index);
    return static_cast<double>(static_cast<int8_t>(kv(p)[index])) * read(kv(p) + kv_scale_offset(op.head_dim), DType::f32, scale);
  };
  const auto key = [&](int64_t p, int64_t d) { return element(p, key_index(op.kv_dtype, p % kPageTokens, d), p % kPageTokens); };
  const auto value_of = [&](int64_t p, int64_t d) {
    if (op.latent_dim > 0) return key(p, d);
    return element(p, kPageTokens * op.head_dim + value_index(op.kv_dtype, op.head_dim, p % kPageTokens, d), kPageTokens + p % kPageTokens);
  };
  std::vector<double> scores;
  double top = -std::numeric_limits<double>::infinity();
  for (int64_t p = first; p <= last; ++p) {
    double dot = 0;
    for (int d = 0; d < op.head_dim; ++d) dot += read(op.q, op.dtype, q_at + d) * key(p, d);
    scores.push_back(dot * static_cast<double>(op.scale));
    top = std::max(top, scores.back());
  }
  if (op.sinks != nullptr) top = std::max(top, static_cast<double>(op.sinks[head]));
  double sum = op.sinks != nullptr ? std::exp(static_cast<double>(op.sinks[head]) - top) : 0;
  for (double& s : scores) sum += s = std::exp(s - top);
  for (int d = 0; d < op.value_dim(); ++d) {
    double value = 0;
    for (int64_t p = first; p <= last; ++p) value += scores[static_cast<size_t>(p - first)] * value_of(p, d);
    write(op.out, op.dtype, out_at + d, value / sum);
  }
}

void attention(const Attention& op) {
  for (int64_t query = 0; query < op.num_queries; ++query) {
    for (int head = 0; head < op.kv_heads * op.heads; ++head) attend(op, query, head);
  }
}

double dot(const float* x, const float* y, int count) {
  double sum = 0;
  for (int i = 0; i < count; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(y[i]);
  return sum;
}

// Column j of the state of a head, or what it becomes.
void delta_column(const DeltaTokens& op, int head, int token, int j) {
  const int slot = op.first + token;
  const auto at = [&](int i) { return (i * op.heads + head) * op.value_dim + j; };
  const float* key = op.keys + slot * op.key_dim;
  const float* query = op.queries + token * op.key_dim;
  const float* decays = op.decays + head * (kDeltaChunk + 1);
  double known = 0;
  double out = 0;
  for (int d = 0; d < op.key_dim; ++d) {
    const double state = static_cast<double>(decays[0]) * static_cast<double>(op.state[(head * op.key_dim + d) * op.value_dim + j]);
    known += static_cast<double>(key[d]) * state;
    out += static_cast<double>(query[d]) * state;
  }
  for (int i = 0; i <= slot; ++i) {
    if (i == slot)
      op.changes[at(i)] =
          static_cast<float>(static_cast<double>(op.beta[token * op.heads + head]) * (static_cast<double>(op.values[at(token)]) - known));
    const double change = static_cast<double>(decays[i + 1]) * static_cast<double>(op.changes[at(i)]);
    known += dot(key, op.keys + i * op.key_dim, op.key_dim) * change;
    out += dot(query, op.keys + i * op.key_dim, op.key_dim) * change;
  }
  op.out[at(token)] = static_cast<float>(out);
  if (slot + 1 < kDeltaChunk) return;
  for (int d = 0; d < op.key_dim; ++d) {
    float& state = op.state[(head * op.key_dim + d) * op.value_dim + j];
    double sum = static_cast<double>(decays[0]) * static_cast<double>(state);
    for (int i = 0; i < kDeltaChunk; ++i)
      sum += static_cast<double>(decays[i + 1]) * static_cast<double>(op.keys[i * op.key_dim + d]) * static_cast<double>(op.changes[at(i)]);
    state = static_cast<float>(sum);
  }
}

void delta_tokens(const DeltaTokens& op) {
  for (int token = 0; token < op.count; ++token) {
    for (int head = 0; head < op.heads; ++head) {
      float* decays = op.decays + head * (kDeltaChunk + 1);
      if (op.first + token == 0) decays[0] = 1;
      for (int i = 0; i <= op.first + token; ++i) decays[i] *= op.decay[token * op.heads + head];
      decays[op.first + token + 1] = 1;
      for (int j = 0; j < op.value_dim; ++j) delta_column(op, head, token, j);
    }
  }
}

void silu_mul(void* gate, const void* up, DType dtype, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const double g = read(gate, dtype, i);
    write(gate, dtype, i, g / (1 + std::exp(-g)) * (up == nullptr ? 1 : read(up, dtype, i)));
  }
}

void clamped_swiglu(float* gate, const float* up, float limit, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const auto g = static_cast<double>(std::min(gate[i], limit));
    const auto u = static_cast<double>(std::clamp(up[i], -limit, limit));
    gate[i] = static_cast<float>(g / (1 + std::exp(-static_cast<double>(kSwigluSlope) * g)) * (u + 1));
  }
}

void gelu_mul(float* gate, const float* up, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const double x = gate[i];
    const double inner = x + static_cast<double>(kGeluCubic) * x * x * x;
    gate[i] = static_cast<float>(x / 2 * (1 + std::tanh(static_cast<double>(kGeluSlope) / 2 * inner)) * static_cast<double>(up[i]));
  }
}

void axpy(float* y, float a, const void* x, DType x_dtype, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = static_cast<float>(static_cast<double>(y[i]) + static_cast<double>(a) * read(x, x_dtype, i));
}

void convert(const void* x, DType x_dtype, void* y, DType y_dtype, int64_t count) {
  for (int64_t i = 0; i < count; ++i) write(y, y_dtype, i, read(x, x_dtype, i));
}

float maximum(const float* x, int64_t count) { return *std::max_element(x, x + count); }

float exp_sum(const float* x, float shift, float* y, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double e = std::exp(static_cast<double>(x[i]) - static_cast<double>(shift));
    if (y != nullptr) y[i] = static_cast<float>(e);
    sum += e;
  }
  return static_cast<float>(sum);
}

// One chain of doubles, as gemm has it.
double multiply_only(DType, int64_t rounds) {
  double sum = 0;
  double x = 1;
  asm volatile("" : "+x"(sum), "+x"(x));
  for (int64_t round = 0; round < 32 * rounds; ++round) sum += x * x;
  asm volatile("" : : "x"(sum));
  return 64.0 * static_cast<double>(rounds);
}

constexpr Kernels kReference{"reference",    gemm,     rms_norm, rotate,  attention, delta_tokens, silu_mul,
                             clamped_swiglu, gelu_mul, axpy,     convert, maximum,   exp_sum,      multiply_only};

}  // namespace

const Kernels& reference_kernels() { return kReference; }

}  // namespace moegen
