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
constexpr int64_t kStoreCols = 96;

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

// sums [rows, kStoreCols], as many columns as `cols` has, go to y.
void store_outputs(const Gemm& op, Range rows, Range cols, const float* sums) {
  with_activation_type(op.y_dtype, [&](auto* y_type) {
    with_weight_type(op.bias_dtype, [&](auto* bias_type) {
      const auto* bias = static_cast<decltype(bias_type)>(op.bias);
      for (int64_t i = 0; i < rows.size(); ++i) {
        auto* y = static_cast<decltype(y_type)>(op.y) + (rows.begin + i) * op.y_stride + cols.begin;
        for (int64_t j = 0; j < cols.size(); j += kW) {
          V out = Simd::load(sums + i * kStoreCols + j);
          if (bias != nullptr) out = Simd::add(out, load_some(bias + cols.begin + j, cols.size() - j));
          if (op.add) out = Simd::add(load_some(y + j, cols.size() - j), out);
          store_some(y + j, out, cols.size() - j);
        }
      }
    });
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

// total[i, 0 .. kCols) for kCols columns from `col` on and a block of rows, kRows at a time.
template <typename P, int kRows, int kCols, typename X, typename W>
void gemm_cols(const Gemm& op, const X* const* x, int64_t rows, int64_t col, float* total) {
  const W* w = static_cast<const W*>(op.w) + col * op.k;
  for (int64_t k = 0; k < op.k; k += kChunk<P>) {
    const Range stretch{k, std::min(k + kChunk<P>, op.k)};
    for (int64_t i = 0; i < rows; i += kRows) {
      // Where there are few rows the weights come from DRAM faster than they can be waited for; many rows give them time.
      const W* ahead = i == 0 && rows <= kFewRows ? w + (op.k + k) * kCols : nullptr;
      with_rows<kRows>(static_cast<int>(std::min<int64_t>(kRows, rows - i)), [&](auto height) {
        float sums[height * kCols];
        dot_tile<P, height, kCols>(x + i, w, op.k, stretch, ahead, sums);
        for (int r = 0; r < height; ++r) {
          float* t = total + (i + r) * kStoreCols;
          for (int j = 0; j < kCols; ++j) t[j] = k == 0 ? sums[r * kCols + j] : t[j] + sums[r * kCols + j];
        }
      });
    }
  }
}

// Outputs are kept together until they are whole lines of y, whose rows would drive each other out of the cache.
template <typename P, int kRows, int kCols, typename X, typename W>
void gemm_block(const Gemm& op, Range rows, Range cols) {
  const X* x[kGemmRowBlock];
  for (int64_t i = 0; i < rows.size(); ++i)
    x[i] = static_cast<const X*>(op.x) + (op.rows != nullptr ? op.rows[rows.begin + i] : rows.begin + i) * op.x_stride;
  float total[kGemmRowBlock * kStoreCols];
  constexpr int64_t kMost = kStoreCols / kCols * kCols;
  for (int64_t first = cols.begin; first < cols.end; first += kMost) {
    const Range part{first, std::min(cols.end, first + kMost)};
    int64_t col = part.begin;
    for (; col + kCols <= part.end; col += kCols) gemm_cols<P, kRows, kCols, X, W>(op, x, rows.size(), col, total + col - first);
    for (; col < part.end; ++col) gemm_cols<P, kRows, 1, X, W>(op, x, rows.size(), col, total + col - first);
    store_outputs(op, rows, part, total);
  }
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
