#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/vectors.h"
#include "kernels/functions.h"

// The gated delta rule over tokens of a chunk: products of keys and queries with the state, a tile of rows and columns at a time, then what the
// chunk's own tokens add, token by token. A row's sums are in one order, whatever rows are beside it. All of it has internal linkage: see
// simd_avx512.h.
namespace moegen {
namespace {

// What tokens of a chunk have in common with those up to themselves: products of keys and queries with keys, and decays between them.
struct DeltaShares {
  float of_keys[kDeltaChunk][kDeltaChunk + 1];     // entry 0: with what was before the chunk; i + 1: with its token i
  float of_queries[kDeltaChunk][kDeltaChunk + 1];  // likewise, the token itself included
};

float dot(const float* x, const float* y, int64_t count) {
  V sum = Simd::zero();
  for (int64_t i = 0; i < count; i += kW) sum = Simd::fma(load_some(x + i, count - i), load_some(y + i, count - i), sum);
  return Simd::sum(sum);
}

// sums[r] += rows[r][d] * matrix[d][0 ..) over all d; `there` elements of a row of the matrix are wanted.
template <int kRows, int kColumns>
void add_products(const float* const* rows, const float* matrix, int64_t dim, int64_t stride, int64_t there, V (*sums)[kColumns]) {
  V acc[kRows][kColumns];
  for (auto& row : acc) {
    for (V& x : row) x = Simd::zero();
  }
  for (int64_t d = 0; d < dim; ++d, matrix += stride) {
    V m[kColumns];
    for (int c = 0; c < kColumns; ++c) m[c] = load_some(matrix + c * kW, there - c * kW);
    for (int r = 0; r < kRows; ++r) {
      const V x = Simd::set(rows[r][d]);
      for (int c = 0; c < kColumns; ++c) acc[r][c] = Simd::fma(x, m[c], acc[r][c]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) sums[r][c] = acc[r][c];
  }
}

constexpr int kDeltaRows = kW == 16 ? 8 : 4;           // of a tile of two vectors
constexpr int kDeltaDecodeColumns = kW == 16 ? 8 : 4;  // vectors, of one token, which goes through the state as it lies in memory

// kColumns vectors of columns of one head, from `j` on, of which `there` elements are wanted; at most kTokens tokens.
template <int kTokens, int kColumns>
void delta_columns(const DeltaTokens& op, const DeltaShares& shares, int head, int64_t j, int64_t there) {
  const int64_t stride = int64_t{op.heads} * op.value_dim;
  const int64_t at = int64_t{head} * op.value_dim + j;
  float* state = op.state + int64_t{head} * op.key_dim * op.value_dim + j;
  const float* rows[2 * kTokens];
  for (int t = 0; t < op.count; ++t) {
    rows[t] = op.keys + (op.first + t) * int64_t{op.key_dim};
    rows[op.count + t] = op.queries + t * int64_t{op.key_dim};
  }
  V known[2 * kTokens][kColumns];
  constexpr int kRows = std::min(kDeltaRows, 2 * kTokens);
  for (int r = 0; r < 2 * op.count; r += kRows) {
    with_count<kRows>(2 * op.count - r, [&](auto count) { add_products<count>(rows + r, state, op.key_dim, op.value_dim, there, known + r); });
  }
  for (int t = 0; t < op.count; ++t) {
    const int slot = op.first + t;
    const float* of_key = shares.of_keys[t];
    const float* of_query = shares.of_queries[t];
    V change[kColumns], out[kColumns];
    for (int c = 0; c < kColumns; ++c) {
      change[c] = Simd::mul(Simd::set(of_key[0]), known[t][c]);
      out[c] = Simd::mul(Simd::set(of_query[0]), known[op.count + t][c]);
    }
    for (int i = 0; i < slot; ++i) {
      for (int c = 0; c < kColumns; ++c) {
        const V then = load_some(op.changes + i * stride + at + c * kW, there - c * kW);
        change[c] = Simd::fma(Simd::set(of_key[i + 1]), then, change[c]);
        out[c] = Simd::fma(Simd::set(of_query[i + 1]), then, out[c]);
      }
    }
    const V beta = Simd::set(op.beta[t * op.heads + head]);
    for (int c = 0; c < kColumns; ++c) {
      const V value = load_some(op.values + t * stride + at + c * kW, there - c * kW);
      change[c] = Simd::mul(beta, Simd::sub(value, change[c]));
      out[c] = Simd::fma(Simd::set(of_query[slot + 1]), change[c], out[c]);
      store_some(op.changes + slot * stride + at + c * kW, change[c], there - c * kW);
      store_some(op.out + t * stride + at + c * kW, out[c], there - c * kW);
    }
  }
}

// The chunk is complete: state = decay * state + the sum of its keys and changes, as they have decayed.
template <int kRows, int kColumns>
void delta_state_rows(const DeltaTokens& op, const float* decays, const V (&changes)[kDeltaChunk][kColumns], float* state, int64_t row,
                      int64_t there) {
  V acc[kRows][kColumns];
  const V decay = Simd::set(decays[0]);
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) acc[r][c] = Simd::mul(decay, load_some(state + r * int64_t{op.value_dim} + c * kW, there - c * kW));
  }
  for (int i = 0; i < kDeltaChunk; ++i) {
    const float* key = op.keys + i * int64_t{op.key_dim} + row;
    for (int r = 0; r < kRows; ++r) {
      const V k = Simd::set(key[r]);
      for (int c = 0; c < kColumns; ++c) acc[r][c] = Simd::fma(k, changes[i][c], acc[r][c]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) store_some(state + r * int64_t{op.value_dim} + c * kW, acc[r][c], there - c * kW);
  }
}

template <int kColumns>
void delta_state(const DeltaTokens& op, int head, int64_t j, int64_t there) {
  const float* decays = op.decays + int64_t{head} * (kDeltaChunk + 1);
  const int64_t stride = int64_t{op.heads} * op.value_dim;
  V changes[kDeltaChunk][kColumns];
  for (int i = 0; i < kDeltaChunk; ++i) {
    const float* at = op.changes + i * stride + int64_t{head} * op.value_dim + j;
    for (int c = 0; c < kColumns; ++c) changes[i][c] = Simd::mul(Simd::set(decays[i + 1]), load_some(at + c * kW, there - c * kW));
  }
  float* state = op.state + int64_t{head} * op.key_dim * op.value_dim + j;
  for (int64_t row = 0; row < op.key_dim; row += kDeltaRows) {
    with_count<kDeltaRows>(op.key_dim - row,
                           [&](auto count) { delta_state_rows<count>(op, decays, changes, state + row * op.value_dim, row, there); });
  }
}

// Calls f(number of vectors, first column, columns from there on) for all columns: kColumns vectors at a time, where there are so many.
template <int kColumns, typename F>
void by_columns(int64_t columns, const F& f) {
  int64_t j = 0;
  for (; j + kColumns * kW <= columns; j += kColumns * kW) f(std::integral_constant<int, kColumns>{}, j, columns - j);
  for (; j < columns; j += kW) f(std::integral_constant<int, 1>{}, j, columns - j);
}

void delta_tokens(const DeltaTokens& op) {
  float of_keys[kDeltaChunk][kDeltaChunk], of_queries[kDeltaChunk][kDeltaChunk];
  for (int t = 0; t < op.count; ++t) {
    const float* key = op.keys + (op.first + t) * int64_t{op.key_dim};
    const float* query = op.queries + t * int64_t{op.key_dim};
    for (int i = 0; i <= op.first + t; ++i) {
      const float* then = op.keys + i * int64_t{op.key_dim};
      of_keys[t][i] = dot(key, then, op.key_dim);
      of_queries[t][i] = dot(query, then, op.key_dim);
    }
  }
  for (int head = 0; head < op.heads; ++head) {
    DeltaShares shares;
    float* decays = op.decays + int64_t{head} * (kDeltaChunk + 1);
    if (op.first == 0) decays[0] = 1;
    for (int t = 0; t < op.count; ++t) {
      const int slot = op.first + t;
      for (int i = 0; i <= slot; ++i) decays[i] *= op.decay[t * op.heads + head];
      decays[slot + 1] = 1;
      shares.of_keys[t][0] = shares.of_queries[t][0] = decays[0];
      for (int i = 0; i <= slot; ++i) {
        shares.of_keys[t][i + 1] = decays[i + 1] * of_keys[t][i];
        shares.of_queries[t][i + 1] = decays[i + 1] * of_queries[t][i];
      }
    }
    if (op.count == 1) {
      by_columns<kDeltaDecodeColumns>(op.value_dim, [&](auto n, int64_t j, int64_t there) { delta_columns<1, n>(op, shares, head, j, there); });
    } else {
      by_columns<2>(op.value_dim, [&](auto n, int64_t j, int64_t there) { delta_columns<kDeltaChunk, n>(op, shares, head, j, there); });
    }
    if (op.first + op.count == kDeltaChunk) {
      by_columns<2>(op.value_dim, [&](auto n, int64_t j, int64_t there) { delta_state<n>(op, head, j, there); });
    }
  }
}

}  // namespace
}  // namespace moegen
