#pragma once

#include <cstdint>

#include "kernels/cpu/row_ops.h"

// All of it has internal linkage: see simd_avx512.h.
namespace moegen {
namespace {

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
