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
  if (op.also != nullptr) gemm(*op.also, rows, cols);
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

// The keys and values that a query's head sees in an Attention.
struct Kv {
  const Attention& op;
  int head;
  [[nodiscard]] const std::byte* at(int64_t p) const {
    return op.pages + static_cast<size_t>(op.page_table[(p - op.first_key) / kPageTokens * op.table_stride]) * op.page_bytes + op.kv_offset +
           static_cast<size_t>(head / op.heads) * op.kv_head_bytes;
  }
  [[nodiscard]] double element(int64_t p, int64_t index, int64_t scale) const {
    if (op.kv_dtype != DType::i8) return read(at(p), op.kv_dtype, index);
    return static_cast<double>(static_cast<int8_t>(at(p)[index])) * read(at(p) + kv_scale_offset(op.head_dim), DType::f32, scale);
  }
  [[nodiscard]] double key(int64_t p, int64_t d) const { return element(p, key_index(op.kv_dtype, p % kPageTokens, d), p % kPageTokens); }
  [[nodiscard]] double value(int64_t p, int64_t d) const {
    if (op.latent_dim > 0) return key(p, d);
    return element(p, kPageTokens * op.head_dim + value_index(op.kv_dtype, op.value_dim(), p % kPageTokens, d), kPageTokens + p % kPageTokens);
  }
};

// softmax(scale * q k^T) v over some keys: what is left of it is a sum, and the largest score, from which on it is counted.
struct Softmax {
  double top = -std::numeric_limits<double>::infinity();
  double total = 0;
  std::vector<double> sum;

  void add(const Kv& kv, int64_t q_at, Range keys) {
    const Attention& op = kv.op;
    std::vector<double> scores;
    double highest = top;
    for (int64_t p = keys.begin; p < keys.end; ++p) {
      double dot = 0;
      for (int d = 0; d < op.head_dim; ++d) dot += read(op.q, op.dtype, q_at + d) * kv.key(p, d);
      scores.push_back(dot * static_cast<double>(op.scale));
      highest = std::max(highest, scores.back());
    }
    const double shrink = total == 0 ? 0 : std::exp(top - highest);
    top = highest;
    total *= shrink;
    for (double& s : scores) total += s = std::exp(s - top);
    for (int d = 0; d < op.value_dim(); ++d) {
      double& value = sum[static_cast<size_t>(d)];
      value *= shrink;
      for (int64_t p = keys.begin; p < keys.end; ++p) value += scores[static_cast<size_t>(p - keys.begin)] * kv.value(p, d);
    }
  }
  void read_from(const float* carry) {
    total = carry[0];
    top = carry[kCarryTop];
    for (size_t d = 0; d < sum.size(); ++d) sum[d] = carry[kCarrySum + static_cast<int64_t>(d)];
  }
  void write_to(float* carry) const {
    carry[0] = static_cast<float>(total);
    carry[kCarryTop] = static_cast<float>(top);
    for (size_t d = 0; d < sum.size(); ++d) carry[kCarrySum + static_cast<int64_t>(d)] = static_cast<float>(sum[d]);
  }
};

// One query, one of its heads. In one piece, but where keys come in ranges: then a page at a time, with floats between, so that its bits do not
// depend on the ranges.
void attend(const Attention& op, int64_t query, int head) {
  const int64_t q_at = query * op.q_stride + static_cast<int64_t>(head) * op.head_dim;
  const int64_t out_at = query * op.out_stride + static_cast<int64_t>(head) * op.value_dim();
  const int64_t last = op.first_position + query;
  const int64_t first = first_seen(last, op.window, op.chunk);
  Softmax softmax;
  softmax.sum.resize(static_cast<size_t>(op.value_dim()));
  if (op.sinks != nullptr) softmax.top = op.sinks[head];
  if (op.sinks != nullptr) softmax.total = 1;
  const Kv kv{op, head};
  if (op.num_keys == 0) {
    softmax.add(kv, q_at, {first, last + 1});
  } else {
    const int64_t end = std::min(last + 1, op.first_key + op.num_keys);
    std::vector<float> between(static_cast<size_t>(attention_carry(op.value_dim())));
    float* carry = op.carry != nullptr ? op.carry + query * op.carry_stride + head * attention_carry(op.value_dim()) : between.data();
    if (first < op.first_key) softmax.read_from(carry);
    for (int64_t p = std::max(first, op.first_key); p < end; p = (p / kPageTokens + 1) * kPageTokens) {
      softmax.add(kv, q_at, {p, std::min(end, (p / kPageTokens + 1) * kPageTokens)});
      softmax.write_to(carry);
      softmax.read_from(carry);
    }
    if (end < last + 1) return;
  }
  for (int d = 0; d < op.value_dim(); ++d) write(op.out, op.dtype, out_at + d, softmax.sum[static_cast<size_t>(d)] / softmax.total);
}

void attention(const Attention& op) {
  for (int64_t query = 0; query < op.num_queries; ++query) {
    for (int head = 0; head < op.kv_heads * op.heads; ++head) attend(op, query, head);
  }
}

void expand_latents(const LatentExpansion& op) {
  const int64_t width = int64_t{op.kv_rank} + op.rope_dim;
  for (int64_t i = 0; i < op.num_pages; ++i) {
    std::byte* keys = op.out + static_cast<size_t>(i) * op.page_bytes();
    std::byte* values = keys + static_cast<size_t>(kPageTokens * op.key_dim()) * bytes_of(op.dtype);
    const auto latent = [&](int64_t t, int64_t d) { return read(op.pages[i], op.dtype, key_index(op.dtype, t, d)); };
    const auto product = [&](int64_t t, int64_t row) {
      double sum = 0;
      for (int64_t d = 0; d < op.kv_rank; ++d) sum += latent(t, d) * read(op.w, op.dtype, row * op.kv_rank + d);
      return sum;
    };
    const int64_t plain = op.key_dim() - op.rope_dim;
    for (int64_t t = 0; t < op.tokens[i]; ++t) {
      for (int64_t d = 0; d < plain; ++d) write(keys, op.dtype, key_index(op.dtype, t, d), d < op.plain_dim ? product(t, d) : 0);
      for (int64_t d = op.kv_rank; d < width; ++d) write(keys, op.dtype, key_index(op.dtype, t, plain + d - op.kv_rank), latent(t, d));
      for (int64_t d = 0; d < op.v_dim; ++d) {
        write(values, op.dtype, value_index(op.dtype, op.v_dim, t, d), product(t, op.plain_dim + d));
        if (op.dtype == DType::bf16 && t % 2 == 0) write(values, op.dtype, value_index(op.dtype, op.v_dim, t + 1, d), 0);
      }
    }
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

constexpr Kernels kReference{"reference",    gemm,     rms_norm, rotate,  attention, expand_latents, delta_tokens, silu_mul,
                             clamped_swiglu, gelu_mul, axpy,     convert, maximum,   exp_sum,        multiply_only};

}  // namespace

const Kernels& reference_kernels() { return kReference; }

}  // namespace moegen
