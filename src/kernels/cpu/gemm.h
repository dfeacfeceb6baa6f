#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/cpu/gemm_columns.h"
#include "kernels/cpu/gemm_panels.h"

// y = x w^T over `Products`, which the including file chose. All of it has internal linkage: see simd_avx512.h.
//
// An output is one chain of multiply-adds along k, in order, whatever is computed beside it, so that no lanes are ever added: lanes are
// rows of one operand, and the other operand's elements are broadcast. As a rule columns lie in lanes, so that any count of rows computes no more
// than it needs: the weights of few rows are turned on their way from DRAM, a block of them while the one before is multiplied, those of
// more a stretch at a time, once for all. Where pairs are multiplied, many rows of x are packed into lanes and stay while the weights go by; what is
// left behind whole panels of them is few rows again.
namespace moegen {
namespace {

template <typename X, typename W>
void gemm_of(const Gemm& op, Range rows, Range cols) {
  using Row = typename RowFor<X, W>::Row;
  using Lines = typename RowOf<Row>::Lines;
  constexpr bool kPairs = Simd::kMultipliesPairs && std::is_same_v<X, bf16> && std::is_same_v<Lines, bf16>;
  using Scalar = std::conditional_t<kPairs, bf16, float>;
  auto& scratch = *static_cast<GemmScratch*>(op.scratch);
  constexpr int64_t kRows = kPairs ? kPanelRows : kBlockRows;
  Range block{rows.begin, rows.begin};
  for (; block.begin < rows.end; block.begin = block.end) {
    block.end = std::min(rows.end, block.begin + kRows);
    const bool many = block.size() > kSomeRows;
    // Rows that would leave many lanes of the last panel idle are a block of their own.
    if (const int64_t rest = block.size() % kPanel; std::is_same_v<Row, const bf16*> && kPairs && many && rest <= kMostApart) block.end -= rest;
    const int64_t width = !many ? kStreamedCols : kPairs ? kPanelCols / (op.also != nullptr ? 2 : 1) : kBlockCols;
    for (int64_t col = cols.begin; col < cols.end; col += width) {
      const Range part{col, std::min(cols.end, col + width)};
      if constexpr (kPairs) {
        if (many) {
          many_rows<Products<Scalar>, Row>(op, block, part, scratch);
          continue;
        }
      }
      for (const Gemm* one = &op; one != nullptr; one = one->also) some_rows<Products<Scalar>, X, Row>(*one, block, part, scratch);
    }
  }
}

template <void (*kGemm)(const Gemm&, Range, Range)>
void one_by_one(Gemm op, Range rows, Range cols) {
  kGemm(*op.also, rows, cols);
  op.also = nullptr;
  kGemm(op, rows, cols);
}

void gemm(const Gemm& op, Range rows, Range cols) {
  if (op.also != nullptr && op.also->w_dtype != op.w_dtype) return one_by_one<gemm>(op, rows, cols);
  with_activation_type(op.x_dtype, [&](auto* x_type) {
    with_matrix_type(op.w_dtype, [&](auto* w_type) {
      gemm_of<std::remove_pointer_t<decltype(x_type)>, std::remove_cv_t<std::remove_pointer_t<decltype(w_type)>>>(op, rows, cols);
    });
  });
}

}  // namespace
}  // namespace moegen
