#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/cpu/vectors.h"
#include "kernels/functions.h"

// y = x w^T over `Products`, which the including file chose. All of it has internal linkage: see simd_avx512.h.
//
// Both operands lie along k, so neither is packed: a vector of x meets a vector of w, and the lanes are added at the end. The
// reduction of an output is one order for ever: along each stretch of kChunk elements a chain of multiply-adds in each lane, then
// the lanes, halves onto halves; then the stretches in order. Tiles only decide what is computed at the same time.
namespace moegen {
namespace {

// A tile of rows stays in L2 and a tile of columns, kChunk long, in L1, while the rows go by.
constexpr int64_t kGemmRowBlock = 64;
constexpr int64_t kFewRows = 16;

template <typename P>
constexpr int64_t kChunk = 64 * P::kStep;

// out[i * kCols + j] = sum of x[i][k] * w[j][k] over a stretch of k. `ahead`, if not null, is fetched into the cache meanwhile, as
// many bytes as w has here: in one line of addresses, which the processor's own prefetcher then follows.
template <typename P, int kRows, int kCols, typename X, typename W>
void dot_tile(const X* const* rows, const W* w, int64_t w_stride, Range stretch, const W* ahead, float* out) {
  const X* x[kRows];
  for (int i = 0; i < kRows; ++i) x[i] = rows[i];
  Simd::V acc[kRows * kCols];
  for (auto& a : acc) a = Simd::zero();
  const auto add_part = [&](auto part, int64_t k, auto... some) {
    typename P::Operand b[kCols];
    for (int j = 0; j < kCols; ++j) b[j] = P::load(part, w + j * w_stride + k, some...);
    for (int i = 0; i < kRows; ++i) {
      const auto a = P::load(part, x[i] + k, some...);
      for (int j = 0; j < kCols; ++j) acc[i * kCols + j] = P::add(acc[i * kCols + j], a, b[j]);
    }
  };
  const auto step = [&](int64_t k, auto... some) {
    add_part(std::integral_constant<int, 0>{}, k, some...);
    if constexpr (P::kParts == 2) add_part(std::integral_constant<int, 1>{}, k, some...);
  };
  int64_t k = stretch.begin;
  if (ahead != nullptr) {
    for (; k + P::kStep <= stretch.end; k += P::kStep, ahead += kCols * P::kStep) {
      for (int64_t i = 0; i < kCols * P::kStep; i += 64 / static_cast<int64_t>(sizeof(W))) __builtin_prefetch(ahead + i);
      step(k);
    }
  } else {
    for (; k + P::kStep <= stretch.end; k += P::kStep) step(k);
  }
  if (k < stretch.end) step(k, stretch.end - k);
  Simd::template sums<kRows * kCols>(acc, out);
}

// One row of a tile's sums, `cols` of them, goes to y.
void store_outputs(const Gemm& op, int64_t row, int64_t col, int cols, const float* sums) {
  V out = Simd::load(sums, cols);
  if (op.bias != nullptr) {
    with_weight_type(op.bias_dtype, [&](auto* type) { out = Simd::add(out, Simd::load(static_cast<decltype(type)>(op.bias) + col, cols)); });
  }
  with_activation_type(op.y_dtype, [&](auto* type) {
    auto* y = static_cast<decltype(type)>(op.y) + row * op.y_stride + col;
    if (op.add) out = Simd::add(Simd::load(y, cols), out);
    Simd::store(y, out, cols);
  });
}

// Calls f with n, which is at most kMost, as a constant.
template <int kMost, typename F>
void with_rows(int n, const F& f) {
  if constexpr (kMost > 1) {
    if (n < kMost) return with_rows<kMost - 1>(n, f);
  }
  f(std::integral_constant<int, kMost>{});
}

// kCols columns from `col` on, for a block of rows, kRows at a time.
template <typename P, int kRows, int kCols, typename X, typename W>
void gemm_cols(const Gemm& op, Range rows, int64_t col) {
  const X* x[kGemmRowBlock];
  for (int64_t i = 0; i < rows.size(); ++i)
    x[i] = static_cast<const X*>(op.x) + (op.rows != nullptr ? op.rows[rows.begin + i] : rows.begin + i) * op.x_stride;
  const W* w = static_cast<const W*>(op.w) + col * op.k;
  float total[kGemmRowBlock * kCols];
  for (int64_t k = 0; k < op.k; k += kChunk<P>) {
    const Range stretch{k, std::min(k + kChunk<P>, op.k)};
    for (int64_t i = 0; i < rows.size();) {
      // Where there are few rows the weights come from DRAM faster than they can be waited for; many rows give them time.
      const W* ahead = i == 0 && rows.size() <= kFewRows ? w + (op.k + k) * kCols : nullptr;
      const auto n = static_cast<int>(std::min<int64_t>(kRows, rows.size() - i));
      float sums[kRows * kCols];
      with_rows<kRows>(n, [&](auto height) { dot_tile<P, height, kCols>(x + i, w, op.k, stretch, ahead, sums); });
      float* t = total + i * kCols;
      for (int s = 0; s < n * kCols; ++s) t[s] = k == 0 ? sums[s] : t[s] + sums[s];
      i += n;
    }
  }
  for (int64_t i = 0; i < rows.size(); ++i) store_outputs(op, rows.begin + i, col, kCols, total + i * kCols);
}

template <typename P, int kRows, int kCols, typename X, typename W>
void gemm_block(const Gemm& op, Range rows, Range cols) {
  int64_t col = cols.begin;
  for (; col + kCols <= cols.end; col += kCols) gemm_cols<P, kRows, kCols, X, W>(op, rows, col);
  for (; col < cols.end; ++col) gemm_cols<P, kRows, 1, X, W>(op, rows, col);
}

// Few rows take a tile as high as they are: weights that come from DRAM then meet all rows at once.
template <typename P, typename X, typename W>
void gemm_of(const Gemm& op, Range rows, Range cols) {
  for (int64_t row = rows.begin; row < rows.end; row += kGemmRowBlock) {
    const Range block{row, std::min(rows.end, row + kGemmRowBlock)};
    if (block.size() <= 2 * P::kRows) {
      gemm_block<P, 2 * P::kRows, P::kCols / 2, X, W>(op, block, cols);
    } else {
      gemm_block<P, P::kRows, P::kCols, X, W>(op, block, cols);
    }
  }
}

void gemm(const Gemm& op, Range rows, Range cols) {
  with_activation_type(op.x_dtype, [&](auto* x_type) {
    with_weight_type(op.w_dtype, [&](auto* w_type) {
      using X = std::remove_pointer_t<decltype(x_type)>;
      using W = std::remove_cv_t<std::remove_pointer_t<decltype(w_type)>>;
      gemm_of<Products<X, W>, X, W>(op, rows, cols);
    });
  });
}

}  // namespace
}  // namespace moegen
