#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/gemm.h"

// y = x w^T for bf16, by a matrix unit: blocks of 16 x 16 sums, to which products of 16 x 32 and 32 x 16 elements are added. `Tiles` are
// AMX; tests have others. All of it has internal linkage: see simd_avx512.h.
namespace moegen {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileElements = 32;  // along k
constexpr int64_t kTileCols = 2 * kTileRows;
constexpr int64_t kTileStretch = kManyStretch;

struct TileScratch {
  alignas(64) bf16 packed[kPanelRows * kTileStretch];  // rows of x, in panels: each is the second operand just as it is
  alignas(64) bf16 weights[kTileCols * kTileStretch];  // [k / 32][2][16][32]: the first operand. Rows in place may all lie in one L1 set
  alignas(64) float total[kPanelCols * kPanelRows];
};
static_assert(sizeof(TileScratch) <= kGemmScratchBytes && kPanelCols / 2 % kTileCols == 0 && kPanel == kTileRows);

// Columns [col, col + kTileCols) of a stretch, in the order of tiles; zeros behind the end of k to a whole tile.
template <typename Row>
void order_weights(const Gemm& op, Range cols, int64_t col, Range stretch, Ahead& ahead, bf16* out) {
  for (int64_t j = 0; j < kTileCols; ++j) {
    const Row row = weight_row<Row>(op, cols, col + j) + stretch.begin;
    bf16* to = out + j / kTileRows * kTileRows * kTileElements + j % kTileRows * kTileElements;
    for (int64_t k = 0; k < stretch.size(); k += kTileElements, to += kTileCols * kTileElements) {
      if (k % (2 * kTileElements) == 0) ahead.fetch(2 * stored_bytes<Row>(kTileElements));
      for (int64_t i = 0; i < kTileElements; i += kLineElements<bf16>) {
        const int64_t left = stretch.size() - k - i;
        const V line = left >= kLineElements<bf16> ? load_line(row + k + i) : left > 0 ? load_line(row + k + i, left) : Simd::zero();
        Simd::store(reinterpret_cast<float*>(to + i), line);
      }
    }
  }
}

template <typename Tiles, typename Row>
void tile_block(const Gemm& op, Range rows, Range cols, TileScratch& scratch) {
  constexpr int64_t kPanelStride = kPanel * kTileStretch;
  const bf16* x[kPanelRows];
  for (int64_t i = 0; i < rows.size(); ++i) x[i] = row_of<bf16>(op, rows.begin + i);
  const int64_t panels = ceil_div(rows.size(), kPanel);
  Ahead ahead = weights_ahead<Row>(op, cols, 0, 0, kTileStretch, kTileCols);
  for (int64_t k = 0; k < op.k; k += kTileStretch) {
    const Range stretch{k, std::min(k + kTileStretch, op.k)};
    pack_rows(x, rows.size(), stretch.size(), scratch.packed, kPanelStride);
    for (int64_t i = 0; i < rows.size(); ++i) x[i] += stretch.size();
    const int64_t steps = ceil_div(stretch.size(), kTileElements);
    // A vector may be shorter than a tile: what is behind it meets weights of zero, but must be a number.
    const int64_t packed_end = round_up(stretch.size(), kLineElements<bf16>) * kPanel;
    for (int64_t p = 0; p < panels; ++p) {
      bf16* panel = scratch.packed + p * kPanelStride;
      std::fill(panel + packed_end, panel + steps * kTileElements * kPanel, bf16{});
    }
    float* total = scratch.total;
    for (const Gemm* one = &op; one != nullptr; one = one->also, total += kPanelCols / 2 * kPanelRows) {
      for (int64_t col = 0; col < cols.size(); col += kTileCols) {
        const Place next = place_behind(op, *one, cols, col + kTileCols, stretch);
        ahead = weights_ahead<Row>(*next.op, cols, next.col, next.k, kTileStretch, kTileCols);
        order_weights<Row>(*one, cols, col, stretch, ahead, scratch.weights);
        for (int64_t panel = 0; panel < panels; panel += 2) {
          const bf16* packed = scratch.packed + panel * kPanelStride;
          float* to = total + col * kPanelRows + panel * kPanel;
          if (panel + 1 < panels) {
            Tiles::template multiply<2>(scratch.weights, packed, kPanelStride, steps, to, kPanelRows, k == 0);
          } else {
            Tiles::template multiply<1>(scratch.weights, packed, kPanelStride, steps, to, kPanelRows, k == 0);
          }
        }
      }
    }
  }
  store_all_turned(op, rows, cols, scratch.total);
}

template <typename Tiles>
void tile_gemm(const Gemm& op, Range rows, Range cols) {
  if (op.also != nullptr && op.also->w_dtype != op.w_dtype) return one_by_one<tile_gemm<Tiles>>(op, rows, cols);
  if (op.x_dtype != DType::bf16 || op.w_dtype == DType::f32 || op.w_dtype == DType::f16) return gemm(op, rows, cols);
  [[maybe_unused]] const Tiles tiles;  // the unit is set up as long as it is there
  auto& scratch = *static_cast<TileScratch*>(op.scratch);
  for (int64_t row = rows.begin; row < rows.end; row += kPanelRows) {
    const int64_t width = kPanelCols / (op.also != nullptr ? 2 : 1);
    for (int64_t col = cols.begin; col < cols.end; col += width) {
      const Range block{row, std::min(rows.end, row + kPanelRows)};
      const Range part{col, std::min(cols.end, col + width)};
      if (op.w_dtype == DType::bf16) {
        tile_block<Tiles, const bf16*>(op, block, part, scratch);
      } else if (op.w_dtype == DType::f4) {
        tile_block<Tiles, F4Row<bf16>>(op, block, part, scratch);
      } else if (op.w_dtype == DType::i4) {
        tile_block<Tiles, CodeRow<bf16, bf16, i4_pair>>(op, block, part, scratch);
      } else if (op.w_dtype == DType::u8) {
        tile_block<Tiles, CodeRow<bf16, bf16, u8_code>>(op, block, part, scratch);
      } else {
        tile_block<Tiles, F8Row<bf16, bf16>>(op, block, part, scratch);
      }
    }
  }
}

}  // namespace
}  // namespace moegen
