#pragma once

#include <cstdint>
#include <limits>

#include "kernels/functions.h"

// Every op over the vectors of `Simd`, which the including file chose. All of it has internal linkage: see simd_avx512.h.
namespace moegen {
namespace {

using V = Simd::V;
constexpr int64_t kW = Simd::kWidth;

template <typename T>
V load_some(const T* p, int64_t n) {
  return n >= kW ? Simd::load(p) : Simd::load(p, n);
}

template <typename T>
void store_some(T* p, V x, int64_t n) {
  if (n >= kW) {
    Simd::store(p, x);
  } else {
    Simd::store(p, x, n);
  }
}

template <typename T>
float load_one(const T* p) {
  alignas(64) float lanes[kW];
  Simd::store(lanes, Simd::load(p, 1));
  return lanes[0];
}

// Calls f with a typed null pointer for the dtype: the one place where a dtype becomes a type.
template <typename F>
void with_weight_type(DType dtype, const F& f) {
  if (dtype == DType::f32) {
    f(static_cast<const float*>(nullptr));
  } else if (dtype == DType::f16) {
    f(static_cast<const f16*>(nullptr));
  } else {
    f(static_cast<const bf16*>(nullptr));
  }
}

template <typename F>
void with_activation_type(DType dtype, const F& f) {
  if (dtype == DType::f32) {
    f(static_cast<float*>(nullptr));
  } else {
    f(static_cast<bf16*>(nullptr));
  }
}

// e^x = 2^n * e^r with n = round(x / ln 2), |r| <= ln 2 / 2; Taylor to r^7: below 2 ulp.
V exp(V x) {
  const V low = Simd::set(-104.0F);  // e^-104 rounds to 0, e^89 to infinity
  const V clamped = Simd::min(Simd::max(x, low), Simd::set(89.0F));
  const V n = Simd::round(Simd::mul(clamped, Simd::set(1.44269504088896341F)));
  V r = Simd::fma(n, Simd::set(-0.693145751953125F), clamped);  // ln 2 in two parts, the first exact in few bits
  r = Simd::fma(n, Simd::set(-1.42860682030941723e-6F), r);
  V p = Simd::set(1.0F / 5040);
  p = Simd::fma(p, r, Simd::set(1.0F / 720));
  p = Simd::fma(p, r, Simd::set(1.0F / 120));
  p = Simd::fma(p, r, Simd::set(1.0F / 24));
  p = Simd::fma(p, r, Simd::set(1.0F / 6));
  p = Simd::fma(p, r, Simd::set(0.5F));
  p = Simd::fma(p, r, Simd::set(1.0F));
  p = Simd::fma(p, r, Simd::set(1.0F));
  return Simd::unordered_or(x, Simd::scale2(p, n));
}

// ---- GEMM: each output is one chain of fused multiply-adds over k in steps of kW lanes, then one sum of the lanes.
// Tiles only decide what is computed at the same time.

template <int kRows, int kCols, typename X, typename W>
void gemm_tile(const Gemm& op, int64_t row, int64_t col) {
  const X* x[kRows];
  const W* w[kCols];
  V acc[kRows][kCols];
  for (int i = 0; i < kRows; ++i) {
    x[i] = static_cast<const X*>(op.x) + (op.rows != nullptr ? op.rows[row + i] : row + i) * op.x_stride;
    for (int j = 0; j < kCols; ++j) acc[i][j] = Simd::zero();
  }
  for (int j = 0; j < kCols; ++j) w[j] = static_cast<const W*>(op.w) + (col + j) * op.k;
  const auto step = [&](int64_t k, auto... some) {
    V b[kCols];
    for (int j = 0; j < kCols; ++j) b[j] = Simd::load(w[j] + k, some...);
    for (int i = 0; i < kRows; ++i) {
      const V a = Simd::load(x[i] + k, some...);
      for (int j = 0; j < kCols; ++j) acc[i][j] = Simd::fma(a, b[j], acc[i][j]);
    }
  };
  int64_t k = 0;
  for (; k + kW <= op.k; k += kW) step(k);
  if (k < op.k) step(k, op.k - k);
  for (int j = 0; j < kCols; ++j) {
    float bias = 0;
    if (op.bias != nullptr) {
      with_weight_type(op.bias_dtype, [&](auto* type) { bias = load_one(static_cast<decltype(type)>(op.bias) + col + j); });
    }
    for (int i = 0; i < kRows; ++i) {
      const float sum = Simd::sum(acc[i][j]) + bias;
      const int64_t at = (row + i) * op.y_stride + col + j;
      if (op.y_dtype == DType::f32) {
        float* y = static_cast<float*>(op.y) + at;
        *y = op.add ? *y + sum : sum;
      } else {
        Simd::store(static_cast<bf16*>(op.y) + at, Simd::set(sum), 1);
      }
    }
  }
}

template <int kCols, typename X, typename W>
void gemm_cols(const Gemm& op, Range rows, int64_t col) {
  int64_t row = rows.begin;
  for (; row + Simd::kGemmRows <= rows.end; row += Simd::kGemmRows) gemm_tile<Simd::kGemmRows, kCols, X, W>(op, row, col);
  for (; row < rows.end; ++row) gemm_tile<1, kCols, X, W>(op, row, col);
}

void gemm(const Gemm& op, Range rows, Range cols) {
  with_activation_type(op.x_dtype, [&](auto* x_type) {
    with_weight_type(op.w_dtype, [&](auto* w_type) {
      using X = std::remove_pointer_t<decltype(x_type)>;
      using W = std::remove_cv_t<std::remove_pointer_t<decltype(w_type)>>;
      int64_t col = cols.begin;
      for (; col + Simd::kGemmCols <= cols.end; col += Simd::kGemmCols) gemm_cols<Simd::kGemmCols, X, W>(op, rows, col);
      for (; col < cols.end; ++col) gemm_cols<1, X, W>(op, rows, col);
    });
  });
}

// ---- Row ops

template <typename X, typename W, typename Y>
void rms_norm_row(const X* x, const W* weight, Y* y, int64_t width, float eps) {
  V squares = Simd::zero();
  for (int64_t k = 0; k < width; k += kW) {
    const V v = load_some(x + k, width - k);
    squares = Simd::fma(v, v, squares);
  }
  const float mean = Simd::sum(squares) / static_cast<float>(width);
  const V factor = Simd::set(1.0F / __builtin_sqrtf(mean + eps));
  for (int64_t k = 0; k < width; k += kW) {
    const V v = Simd::mul(load_some(x + k, width - k), factor);
    store_some(y + k, Simd::mul(v, load_some(weight + k, width - k)), width - k);
  }
}

void rms_norm(const RmsNorm& op, Range rows) {
  with_activation_type(op.x_dtype, [&](auto* x_type) {
    with_activation_type(op.y_dtype, [&](auto* y_type) {
      with_weight_type(op.weight_dtype, [&](auto* w_type) {
        for (int64_t i = rows.begin; i < rows.end; ++i) {
          rms_norm_row(static_cast<const std::remove_pointer_t<decltype(x_type)>*>(op.x) + i * op.x_stride, static_cast<decltype(w_type)>(op.weight),
                       static_cast<decltype(y_type)>(op.y) + i * op.y_stride, op.width, op.eps);
        }
      });
    });
  });
}

void rotate(float* head, const float* cos, const float* sin, int64_t dim) {
  const int64_t half = dim / 2;
  for (int64_t i = 0; i < half; i += kW) {
    const int64_t n = half - i;
    const V a = load_some(head + i, n);
    const V b = load_some(head + half + i, n);
    const V c = load_some(cos + i, n);
    const V s = load_some(sin + i, n);
    store_some(head + i, Simd::sub(Simd::mul(a, c), Simd::mul(b, s)), n);
    store_some(head + half + i, Simd::fma(b, c, Simd::mul(a, s)), n);
  }
}

void silu_mul(void* gate, const void* up, DType dtype, int64_t count) {
  with_activation_type(dtype, [&](auto* type) {
    auto* g = static_cast<decltype(type)>(gate);
    const auto* u = static_cast<const std::remove_pointer_t<decltype(type)>*>(up);
    for (int64_t i = 0; i < count; i += kW) {
      const V x = load_some(g + i, count - i);
      const V sigmoid = Simd::div(Simd::set(1.0F), Simd::add(Simd::set(1.0F), exp(Simd::sub(Simd::zero(), x))));
      store_some(g + i, Simd::mul(Simd::mul(x, sigmoid), load_some(u + i, count - i)), count - i);
    }
  });
}

void axpy(float* y, float a, const void* x, DType x_dtype, int64_t count) {
  with_activation_type(x_dtype, [&](auto* type) {
    const auto* p = static_cast<const std::remove_pointer_t<decltype(type)>*>(x);
    for (int64_t i = 0; i < count; i += kW)
      store_some(y + i, Simd::fma(Simd::set(a), load_some(p + i, count - i), load_some(y + i, count - i)), count - i);
  });
}

void convert(const void* x, DType x_dtype, void* y, DType y_dtype, int64_t count) {
  with_weight_type(x_dtype, [&](auto* x_type) {
    with_activation_type(y_dtype, [&](auto* y_type) {
      for (int64_t i = 0; i < count; i += kW) {
        store_some(static_cast<decltype(y_type)>(y) + i, load_some(static_cast<decltype(x_type)>(x) + i, count - i), count - i);
      }
    });
  });
}

float maximum(const float* x, int64_t count) {
  const V least = Simd::set(-std::numeric_limits<float>::infinity());
  V top = least;
  for (int64_t i = 0; i < count; i += kW)
    top = Simd::max(top, count - i >= kW ? Simd::load(x + i) : Simd::keep(Simd::load(x + i, count - i), count - i, least));
  return Simd::largest(top);
}

float exp_sum(const float* x, float shift, float* y, int64_t count) {
  V total = Simd::zero();
  for (int64_t i = 0; i < count; i += kW) {
    V e = exp(Simd::sub(load_some(x + i, count - i), Simd::set(shift)));
    if (count - i < kW) e = Simd::keep(e, count - i, Simd::zero());
    if (y != nullptr) store_some(y + i, e, count - i);
    total = Simd::add(total, e);
  }
  return Simd::sum(total);
}

// ---- Attention

template <typename T>
float dot(const float* a, const T* b, int64_t n) {
  V acc = Simd::zero();
  for (int64_t i = 0; i < n; i += kW) acc = Simd::fma(load_some(a + i, n - i), load_some(b + i, n - i), acc);
  return Simd::sum(acc);
}

// acc += sum_j weights[j] * v[j], over the rows of v in order.
template <typename T>
void add_values(float* acc, const float* weights, const T* v, int64_t rows, int64_t n) {
  for (int64_t i = 0; i < n; i += kW) {
    V sum = load_some(acc + i, n - i);
    for (int64_t j = 0; j < rows; ++j) sum = Simd::fma(Simd::set(weights[j]), load_some(v + j * n + i, n - i), sum);
    store_some(acc + i, sum, n - i);
  }
}

void scale_by(float* x, float factor, int64_t n) {
  for (int64_t i = 0; i < n; i += kW) store_some(x + i, Simd::mul(load_some(x + i, n - i), Simd::set(factor)), n - i);
}

template <typename T>
void attend(const Attention& op, int64_t query, const T* q_in, T* out) {
  const int64_t dim = op.head_dim;
  float* q = op.scratch;
  float* acc = q + dim;
  float* scores = acc + dim;
  convert(q_in, kDTypeOf<T>, q, DType::f32, dim);
  for (int64_t d = 0; d < dim; ++d) acc[d] = 0;
  const int64_t end = op.first_position + query + 1;
  const int64_t begin = op.window > 0 && end > op.window ? end - op.window : 0;
  float top = -std::numeric_limits<float>::infinity();
  float total = 0;
  for (int64_t page = begin / op.page_tokens; page * op.page_tokens < end; ++page) {
    const int64_t first = page * op.page_tokens;
    const int64_t low = begin > first ? begin - first : 0;
    const int64_t rows = (end - first < op.page_tokens ? end - first : op.page_tokens) - low;
    const std::byte* at = op.pages + static_cast<size_t>(op.page_table[page]) * op.page_bytes;
    const T* keys = reinterpret_cast<const T*>(at + op.k_offset) + low * dim;
    const T* values = reinterpret_cast<const T*>(at + op.v_offset) + low * dim;
    for (int64_t j = 0; j < rows; ++j) scores[j] = dot(q, keys + j * dim, dim) * op.scale;
    const float page_top = maximum(scores, rows);
    if (page_top > top) {
      const float shrink = exp_sum(&top, page_top, nullptr, 1);  // e^(old - new), 0 for the first page
      total *= shrink;
      scale_by(acc, shrink, dim);
      top = page_top;
    }
    total += exp_sum(scores, top, scores, rows);
    add_values(acc, scores, values, rows, dim);
  }
  scale_by(acc, 1.0F / total, dim);
  convert(acc, DType::f32, out, kDTypeOf<T>, dim);
}

void attention(const Attention& op) {
  with_activation_type(op.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    for (int64_t query = 0; query < op.num_queries; ++query) {
      for (int head = 0; head < op.heads; ++head) {
        const int64_t at = query * op.stride + static_cast<int64_t>(head) * op.head_dim;
        attend(op, query, static_cast<const T*>(op.q) + at, static_cast<T*>(op.out) + at);
      }
    }
  });
}

}  // namespace
}  // namespace moegen
