#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/cpu/row_ops.h"
#include "kernels/kv_page.h"

// Attention over pages: scores with a lane for each token, then values with a lane for each element, for some rows (a query and
// a head of it) at a time, which share every load. Softmax in float, online over the pages (Milakov and Gimelshein, arXiv 1805.02867).
// A row's bits do not depend on the rows beside it: what it may not see adds zero. All of it has internal linkage: see simd_avx512.h.
namespace moegen {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();
constexpr int64_t kTokenVectors = kPageTokens / kW;

// Some rows on their way through the pages, in scratch.
template <typename T>
struct AttentionRows {
  using Coefficient = typename Groups<T>::Coefficient;
  const Coefficient* q[Simd::kAttentionRows];  // [head_dim]
  int64_t begin[Simd::kAttentionRows];         // positions that the row sees: [begin, end)
  int64_t end[Simd::kAttentionRows];
  float top[Simd::kAttentionRows];
  V total[Simd::kAttentionRows];  // by lanes
  float* acc;                     // [rows, head_dim rounded up to kW]
  Coefficient* p;                 // [rows, kPageTokens]
};

// scores[r][v] = q[r] . k for tokens [v * kW, ...) from `token` on. Meanwhile as many bytes as this head has in a page are fetched from
// `ahead`, if not null.
template <int kRows, typename T>
void page_scores(const AttentionRows<T>& rows, const T* keys, int64_t head_dim, int64_t token, const std::byte* ahead, V (&scores)[kRows][2]) {
  constexpr int64_t kGroup = kv_group(kDTypeOf<T>);
  for (auto& s : scores) s[0] = s[1] = Simd::zero();
  constexpr auto kBytes = static_cast<int64_t>(2 * kPageTokens * kGroup * sizeof(T));  // of keys and values, per group of elements
  for (int64_t d = 0; d < head_dim; d += kGroup) {
    if (ahead != nullptr) {
      for (int64_t i = 0; i < kBytes; i += 64) __builtin_prefetch(ahead + i);
      ahead += kBytes;
    }
    const T* at = keys + d * kPageTokens + token * kGroup;
    const auto k0 = Groups<T>::load(at);
    const auto k1 = Groups<T>::load(at + kW * kGroup);
    for (int r = 0; r < kRows; ++r) {
      const auto q = Groups<T>::broadcast(rows.q[r] + d);
      scores[r][0] = Groups<T>::add(scores[r][0], q, k0);
      scores[r][1] = Groups<T>::add(scores[r][1], q, k1);
    }
  }
}

// Scores become weights: scaled, hidden where the row does not see, e^(score - top); what was summed before shrinks with a new top.
template <int kRows, typename T>
void page_weights(AttentionRows<T>& rows, V (&scores)[kTokenVectors][kRows], int64_t first, float scale, float (&shrink)[kRows]) {
  for (int r = 0; r < kRows; ++r) {
    V highest = Simd::set(kNone);
    for (int64_t v = 0; v < kTokenVectors; ++v) {
      const int64_t at = first + v * kW;
      V s = Simd::mul(scores[v][r], Simd::set(scale));
      if (rows.end[r] < at + kW) s = Simd::keep(s, std::clamp<int64_t>(rows.end[r] - at, 0, kW), Simd::set(kNone));
      if (rows.begin[r] > at) s = Simd::keep(Simd::set(kNone), std::clamp<int64_t>(rows.begin[r] - at, 0, kW), s);
      scores[v][r] = s;
      highest = Simd::max(highest, s);
    }
    const float top = std::max(rows.top[r], Simd::largest(highest));
    const float base = top == kNone ? 0 : top;
    shrink[r] = rows.top[r] == top ? 1.0F : exp_sum(&rows.top[r], base, nullptr, 1);
    rows.top[r] = top;
    V total = Simd::mul(rows.total[r], Simd::set(shrink[r]));
    for (int64_t v = 0; v < kTokenVectors; ++v) {
      const V p = exp(Simd::sub(scores[v][r], Simd::set(base)));
      total = Simd::add(total, p);
      Groups<T>::store(rows.p + r * kPageTokens + v * kW, p);
    }
    rows.total[r] = total;
  }
}

// acc = acc * shrink + weights . values, kVectors vectors of elements from d on.
template <int kRows, int kVectors, typename T>
void page_values(const AttentionRows<T>& rows, const T* values, int64_t tokens, int64_t head_dim, int64_t d, int64_t stride,
                 const float (&shrink)[kRows]) {
  constexpr int64_t kGroup = kv_group(kDTypeOf<T>);
  V acc[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) acc[r][v] = Simd::mul(Simd::load(rows.acc + r * stride + d + v * kW), Simd::set(shrink[r]));
  }
  const int64_t left = head_dim - d - (kVectors - 1) * kW;  // elements of the last vector
  for (int64_t t = 0; t < tokens; t += kGroup) {
    const T* at = values + t * head_dim + d * kGroup;
    typename Groups<T>::Operand x[kVectors];
    for (int v = 0; v < kVectors - 1; ++v) x[v] = Groups<T>::load(at + v * kW * kGroup);
    x[kVectors - 1] = left >= kW ? Groups<T>::load(at + (kVectors - 1) * kW * kGroup) : Groups<T>::load(at + (kVectors - 1) * kW * kGroup, left);
    for (int r = 0; r < kRows; ++r) {
      const auto p = Groups<T>::broadcast(rows.p + r * kPageTokens + t);
      for (int v = 0; v < kVectors; ++v) acc[r][v] = Groups<T>::add(acc[r][v], p, x[v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) Simd::store(rows.acc + r * stride + d + v * kW, acc[r][v]);
  }
}

template <int kRows, typename T>
void attend_page(const Attention& op, AttentionRows<T>& rows, int64_t first, int64_t end, int64_t stride) {
  const auto page_of = [&](int64_t position) { return op.pages + static_cast<size_t>(op.page_table[position / kPageTokens]) * op.page_bytes; };
  const std::byte* page = page_of(first);
  // A generated token meets each page once and would wait for it; the rows of a prompt meet it again and again.
  const std::byte* ahead = op.num_queries == 1 && first + kPageTokens < end ? page_of(first + kPageTokens) + op.k_offset : nullptr;
  const T* keys = reinterpret_cast<const T*>(page + op.k_offset);
  const T* values = reinterpret_cast<const T*>(page + op.v_offset);
  V scores[kTokenVectors][kRows];
  for (int64_t v = 0; v < kTokenVectors; v += 2) {
    V two[kRows][2];
    page_scores<kRows>(rows, keys, op.head_dim, v * kW, v == 0 ? ahead : nullptr, two);
    for (int r = 0; r < kRows; ++r) {
      scores[v][r] = two[r][0];
      scores[v + 1][r] = two[r][1];
    }
  }
  float shrink[kRows];
  page_weights<kRows>(rows, scores, first, op.scale, shrink);
  int64_t d = 0;
  for (; d + 2 * kW <= op.head_dim; d += 2 * kW)
    page_values<kRows, 2>(rows, values, std::min<int64_t>(end - first, kPageTokens), op.head_dim, d, stride, shrink);
  for (; d < op.head_dim; d += kW) page_values<kRows, 1>(rows, values, std::min<int64_t>(end - first, kPageTokens), op.head_dim, d, stride, shrink);
}

// Rows [row, row + kRows) of queries x heads.
template <int kRows, typename T>
void attend_rows(const Attention& op, int64_t row) {
  const int64_t stride = (op.head_dim + kW - 1) / kW * kW;
  AttentionRows<T> rows;
  rows.acc = op.scratch;
  rows.p = reinterpret_cast<typename Groups<T>::Coefficient*>(op.scratch + kRows * stride);
  float* converted = op.scratch + kRows * (stride + kPageTokens);
  int64_t begin = std::numeric_limits<int64_t>::max();
  int64_t end = 0;
  int64_t offset[kRows];
  for (int r = 0; r < kRows; ++r) {
    const int64_t query = (row + r) / op.heads;
    offset[r] = query * op.stride + (row + r) % op.heads * op.head_dim;
    rows.q[r] = Groups<T>::coefficients(static_cast<const T*>(op.q) + offset[r], op.head_dim, converted + r * stride);
    rows.end[r] = op.first_position + query + 1;
    rows.begin[r] = op.window > 0 && rows.end[r] > op.window ? rows.end[r] - op.window : 0;
    rows.top[r] = kNone;
    rows.total[r] = Simd::zero();
    begin = std::min(begin, rows.begin[r]);
    end = std::max(end, rows.end[r]);
  }
  for (int64_t i = 0; i < kRows * stride; i += kW) Simd::store(rows.acc + i, Simd::zero());
  for (int64_t first = begin / kPageTokens * kPageTokens; first < end; first += kPageTokens) {
    attend_page<kRows>(op, rows, first, end, stride);
  }
  for (int r = 0; r < kRows; ++r) {
    const V factor = Simd::set(1.0F / Simd::sum(rows.total[r]));
    T* out = static_cast<T*>(op.out) + offset[r];
    for (int64_t d = 0; d < op.head_dim; d += kW) store_some(out + d, Simd::mul(Simd::load(rows.acc + r * stride + d), factor), op.head_dim - d);
  }
}

template <int kRows, typename T>
void attend_from(const Attention& op, int64_t row) {
  const int64_t rows = op.num_queries * op.heads;
  for (; row + kRows <= rows; row += kRows) attend_rows<kRows, T>(op, row);
  if constexpr (kRows > 1) attend_from<kRows / 2, T>(op, row);
}

void attention(const Attention& op) {
  static_assert(Simd::kAttentionRows <= kAttentionRowsMax);
  with_activation_type(op.dtype, [&](auto* type) { attend_from<Simd::kAttentionRows, std::remove_pointer_t<decltype(type)>>(op, 0); });
}

}  // namespace
}  // namespace moegen
