#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>
#include <numeric>

#include "base/checked.h"
#include "kernels/cpu/row_ops.h"
#include "kernels/kv_page.h"

// Some rows of attention and a page: scores with a lane for each token, then values with a lane for each element, for some rows (a query and
// a head of it) at a time, which share every load. Softmax in float, online over the pages (Milakov and Gimelshein, arXiv 1805.02867).
// A row's bits do not depend on the rows beside it: what it may not see adds zero. All of it has internal linkage: see simd_avx512.h.
namespace moegen {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();
constexpr int64_t kTokenVectors = kPageTokens / kW;
template <typename S>
constexpr int64_t kVectorBytes = kW* kv_group(kDTypeOf<S>) * static_cast<int64_t>(sizeof(S));

// Some rows on their way through the pages, in scratch.
template <typename T, typename S>
struct AttentionRows {
  using Coefficient = typename Groups<T, S>::Coefficient;
  int64_t count;
  T* out[Simd::kAttentionRows];
  float* left[Simd::kAttentionRows];           // of `carry`, where the row sees keys behind the range; else null
  const Coefficient* q[Simd::kAttentionRows];  // [head_dim]
  int64_t begin[Simd::kAttentionRows];         // positions that the row sees: [begin, end)
  int64_t end[Simd::kAttentionRows];
  alignas(64) float top[kW];
  V total[Simd::kAttentionRows];  // by lanes
  float* acc;                     // [rows, value_dim rounded up to kW]
  Coefficient* p;                 // [rows, kPageTokens]
};

// Fetched into the cache while something else of the same size is computed with: as many bytes as are loaded, half of them from either half.
struct PageAhead {
  const std::byte* at;
  int64_t half;  // bytes
  void fetch(int64_t bytes) {
    fetch_two_lines(at, half, bytes);
    at += bytes / 2;
  }
};
struct NothingAhead {
  void fetch(int64_t) {}
};

// scores[r][v] = q[r] . k for tokens [v * kW, ...) from `token` on.
template <int kRows, typename T, typename S, typename Ahead>
void page_scores(const AttentionRows<T, S>& rows, const S* keys, int64_t head_dim, int64_t token, Ahead& ahead, V (&scores)[kRows][2]) {
  constexpr int64_t kGroup = kv_group(kDTypeOf<S>);
  for (auto& s : scores) s[0] = s[1] = Simd::zero();
  for (int64_t d = 0; d < head_dim; d += kGroup) {
    ahead.fetch(2 * kVectorBytes<S>);
    const S* at = keys + d * kPageTokens + token * kGroup;
    const auto k0 = Groups<T, S>::load(at);
    const auto k1 = Groups<T, S>::load(at + kW * kGroup);
    for (int r = 0; r < kRows; ++r) {
      const auto q = Groups<T, S>::broadcast(rows.q[r] + d);
      scores[r][0] = Groups<T, S>::add(scores[r][0], q, k0);
      scores[r][1] = Groups<T, S>::add(scores[r][1], q, k1);
    }
  }
}

// Lane r has the largest element of x[r].
template <int kRows>
V largest_each(const V* x) {
  static_assert(kRows <= kW);
  V tops[kW / 4];
  for (int i = 0; i < kW / 4; ++i) {
    V four[4];
    for (int r = 0; r < 4; ++r) four[r] = x[std::min(4 * i + r, kRows - 1)];
    Simd::turn_four(four);
    tops[i] = Simd::max(Simd::max(four[0], four[1]), Simd::max(four[2], four[3]));
  }
  Simd::turn_lanes(tops);
  for (int i = 1; i < kW / 4; ++i) tops[0] = Simd::max(tops[0], tops[i]);
  return tops[0];
}

// Scores become weights: scaled, hidden where the row does not see, e^(score - top); what was summed before shrinks with a new top, by
// shrink[r], which has room for whole vectors.
// `scales`, with int8, are those of the keys, then those of the values, which the weights take over.
template <int kRows, typename T, typename S>
void page_weights(AttentionRows<T, S>& rows, V (&scores)[kTokenVectors * kRows], int64_t first, float scale, const float* scales, float* shrink) {
  V highest[kRows];
  for (int r = 0; r < kRows; ++r) {
    const bool hides = rows.begin[r] > first || rows.end[r] < first + kPageTokens;
    highest[r] = Simd::set(kNone);
    for (int64_t v = 0; v < kTokenVectors; ++v) {
      V s = Simd::mul(scores[r * kTokenVectors + v], Simd::set(scale));
      if constexpr (std::is_same_v<S, int8_t>) s = Simd::mul(s, Simd::load(scales + v * kW));
      if (hides) {
        const int64_t at = first + v * kW;
        s = Simd::keep(s, std::clamp<int64_t>(rows.end[r] - at, 0, kW), Simd::set(kNone));
        s = Simd::keep(Simd::set(kNone), std::clamp<int64_t>(rows.begin[r] - at, 0, kW), s);
      }
      scores[r * kTokenVectors + v] = s;
      highest[r] = Simd::max(highest[r], s);
    }
  }
  alignas(64) float base[kW];
  const V before = Simd::load(rows.top);
  const V top = Simd::max(largest_each<kRows>(highest), before);
  const V finite = Simd::max(Simd::set(std::numeric_limits<float>::lowest()), top);  // where nothing is seen yet, all weights become 0
  Simd::store(rows.top, top);
  Simd::store(base, finite);
  Simd::store(shrink, exp(Simd::sub(before, finite)));
  for (int i = 0; i < kTokenVectors * kRows; ++i) scores[i] = Simd::sub(scores[i], Simd::set(base[i / kTokenVectors]));
  constexpr int kTogether = std::gcd(kTokenVectors * kRows, kW / 2);  // whose steps fit the registers
  for (int i = 0; i < kTokenVectors * kRows; i += kTogether) exp_each<kTogether>(scores + i);
  for (int r = 0; r < kRows; ++r) {
    V total = Simd::mul(rows.total[r], Simd::set(shrink[r]));
    for (int64_t v = 0; v < kTokenVectors; ++v) {
      V weight = scores[r * kTokenVectors + v];
      total = Simd::add(total, weight);
      if constexpr (std::is_same_v<S, int8_t>) {
        const int64_t there = std::clamp<int64_t>(rows.end[r] - first - v * kW, 0, kW);
        weight = Simd::mul(weight, Simd::keep(Simd::load(scales + kPageTokens + v * kW), there, Simd::zero()));
      }
      Groups<T, S>::store(rows.p + r * kPageTokens + v * kW, weight);
    }
    rows.total[r] = total;
  }
}

// acc = acc * shrink + weights . values, kVectors vectors of elements from d on; `dim` elements are a value. kWhole: as many are there.
// Not inlined, so that the sums have the registers: g++ 12 keeps what calls share in some of them and spills values.
template <int kRows, int kVectors, bool kWhole, typename T, typename S, typename Ahead>
[[gnu::noinline]] void page_values(const AttentionRows<T, S>& rows, const S* values, int64_t tokens, int64_t dim, int64_t d, int64_t stride,
                                   const float* shrink, Ahead& ahead) {
  constexpr int64_t kGroup = kv_group(kDTypeOf<S>);
  float* const sums = rows.acc + d;
  const auto* p = rows.p;
  V acc[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) acc[r][v] = Simd::mul(Simd::load(sums + r * stride + v * kW), Simd::set(shrink[r]));
  }
  const S* at = values + d * kGroup;
  const auto* const last = p + tokens;
  do {
    ahead.fetch(kVectors * kVectorBytes<S>);
    typename Groups<T, S>::Operand x[kVectors];
    for (int v = 0; v < kVectors; ++v)
      x[v] = kWhole ? Groups<T, S>::load(at + v * kW * kGroup) : Groups<T, S>::load(at + v * kW * kGroup, dim - d - v * kW);
    for (int r = 0; r < kRows; ++r) {
      const auto weight = Groups<T, S>::broadcast(p + r * kPageTokens);
      for (int v = 0; v < kVectors; ++v) acc[r][v] = Groups<T, S>::add(acc[r][v], weight, x[v]);
    }
    at += dim * kGroup;
    p += kGroup;
  } while (p < last);
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) Simd::store(sums + r * stride + v * kW, acc[r][v]);
  }
}

// The keys of a page, their values, and with int8 the scales of both.
template <typename S>
struct PageParts {
  const S* keys;
  const S* values;
  const float* scales;
};

// The page of tokens from `first` on, of which those before `end` are there.
template <int kRows, typename T, typename S, typename Ahead>
void attend_page(const Attention& op, AttentionRows<T, S>& rows, const PageParts<S>& page, int64_t first, int64_t end, Ahead ahead) {
  const int64_t dim = op.value_dim();
  const int64_t stride = round_up<int64_t>(dim, kW);
  V scores[kTokenVectors * kRows];
  for (int64_t v = 0; v < kTokenVectors; v += 2) {
    V two[kRows][2];
    page_scores<kRows>(rows, page.keys, op.head_dim, v * kW, ahead, two);
    for (int r = 0; r < kRows; ++r) {
      scores[r * kTokenVectors + v] = two[r][0];
      scores[r * kTokenVectors + v + 1] = two[r][1];
    }
  }
  alignas(64) float shrink[kW];
  page_weights<kRows>(rows, scores, first, op.scale, page.scales, shrink);
  const int64_t tokens = std::min<int64_t>(end - first, kPageTokens);
  int64_t d = 0;
  for (; d + 2 * kW <= dim; d += 2 * kW) page_values<kRows, 2, true>(rows, page.values, tokens, dim, d, stride, shrink, ahead);
  if (d + kW <= dim) {
    page_values<kRows, 1, true>(rows, page.values, tokens, dim, d, stride, shrink, ahead);
    d += kW;
  }
  if (d < dim) page_values<kRows, 1, false>(rows, page.values, tokens, dim, d, stride, shrink, ahead);
}

// Fetches a row of queries or outputs into L2.
template <typename T>
void fetch(const T* row, int64_t count) {
  for (int64_t i = 0; i < count; i += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(row + i, 0, 2);
}

// The range of positions whose keys are there.
Range key_range(const Attention& op) {
  if (op.num_keys == 0) return {0, std::numeric_limits<int64_t>::max()};
  return {op.first_key, op.first_key + op.num_keys};
}

template <typename T, typename S>
void resume_row(const float* carry, int64_t r, int64_t stride, AttentionRows<T, S>& rows) {
  rows.total[r] = Simd::load(carry);
  rows.top[r] = carry[kCarryTop];
  for (int64_t i = 0; i < stride; i += kW) Simd::store(rows.acc + r * stride + i, Simd::load(carry + kCarrySum + i));
}

// Rows [row, row + count) of queries x heads of a KV head; `scratch` has attention_row_scratch() floats for each. Returns [begin, end) of
// the positions that any of them sees, of those that are there.
template <typename T, typename S>
Range begin_rows(const Attention& op, int kv_head, int64_t row, int64_t count, float* scratch, AttentionRows<T, S>& rows) {
  const int64_t stride = round_up<int64_t>(op.value_dim(), kW);
  const int64_t q_room = round_up<int64_t>(op.head_dim, kW);
  rows.count = count;
  rows.acc = scratch;
  rows.p = reinterpret_cast<typename Groups<T, S>::Coefficient*>(scratch + count * stride);
  float* converted = scratch + count * (stride + kPageTokens);
  Range seen{std::numeric_limits<int64_t>::max(), 0};
  const Range keys = key_range(op);
  for (int64_t i = 0; i < count * stride; i += kW) Simd::store(rows.acc + i, Simd::zero());
  std::fill_n(rows.top, std::size(rows.top), 0.0F);
  for (int64_t r = 0; r < count; ++r) {
    const int64_t query = (row + r) / op.heads;
    const int64_t head = kv_head * op.heads + (row + r) % op.heads;
    const T* q = static_cast<const T*>(op.q) + query * op.q_stride + head * op.head_dim;
    rows.q[r] = Groups<T, S>::coefficients(q, op.head_dim, converted + r * q_room);
    rows.out[r] = static_cast<T*>(op.out) + query * op.out_stride + head * op.value_dim();
    fetch(q, op.head_dim);  // neither is there while many rows go by
    fetch(rows.out[r], op.value_dim());
    rows.end[r] = op.first_position + query + 1;
    rows.begin[r] = first_seen(rows.end[r] - 1, op.window, op.chunk);
    rows.top[r] = op.sinks != nullptr ? op.sinks[head] : kNone;
    rows.total[r] = op.sinks != nullptr ? Simd::keep(Simd::set(1.0F), 1, Simd::zero()) : Simd::zero();
    float* carry = op.carry == nullptr ? nullptr : op.carry + query * op.carry_stride + head * attention_carry(op.value_dim());
    if (rows.begin[r] < keys.begin) resume_row(carry, r, stride, rows);
    rows.left[r] = rows.end[r] > keys.end ? carry : nullptr;
    rows.begin[r] = std::max(rows.begin[r], keys.begin);
    rows.end[r] = std::min(rows.end[r], keys.end);
    seen = {std::min(seen.begin, rows.begin[r]), std::max(seen.end, rows.end[r])};
  }
  return seen;
}

template <typename T, typename S>
void leave_row(int64_t r, int64_t stride, const AttentionRows<T, S>& rows) {
  Simd::store(rows.left[r], rows.total[r]);
  rows.left[r][kCarryTop] = rows.top[r];
  for (int64_t i = 0; i < stride; i += kW) Simd::store(rows.left[r] + kCarrySum + i, Simd::load(rows.acc + r * stride + i));
}

template <typename T, typename S>
void finish_rows(const Attention& op, const AttentionRows<T, S>& rows) {
  const int64_t dim = op.value_dim();
  const int64_t stride = round_up<int64_t>(dim, kW);
  for (int64_t r = 0; r < rows.count; ++r) {
    if (rows.left[r] != nullptr) {
      leave_row(r, stride, rows);
      continue;
    }
    const V factor = Simd::set(1.0F / Simd::sum(rows.total[r]));
    for (int64_t d = 0; d < dim; d += kW) store_some(rows.out[r] + d, Simd::mul(Simd::load(rows.acc + r * stride + d), factor), dim - d);
  }
}

}  // namespace
}  // namespace moegen
