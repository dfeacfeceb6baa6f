#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/gemm_parts.h"

// A GEMM with rows of x in lanes (gemm.h). All of it has internal linkage: see simd_avx512.h.
namespace moegen {
namespace {

// Panels of a tile that has as many columns and stays in registers.
constexpr int kManyPanels = std::clamp<int>(Simd::kGemmSums / kManyCols / (kPanel / kW), 1, 4);

// packed[p][k / 2][kPanel][2] of rows x[0 .. count); panels `panel_stride` elements apart; zeros behind them to a whole panel, and behind k to a
// whole vector.
void pack_rows(const bf16* const* x, int64_t count, int64_t length, bf16* packed, int64_t panel_stride) {
  constexpr int64_t kElements = kLineElements<bf16>;
  for (int64_t panel = 0; panel < count; panel += kPanel) {
    for (int64_t k = 0; k < length; k += kElements) {
      for (int64_t first = 0; first < kPanel; first += kW) {
        V lines[kW];
        const int64_t row = panel + first;
        if (row + kW <= count && k + kElements <= length) {
          load_turned(x + row, k, lines);
        } else {
          for (int64_t i = 0; i < kW; ++i) lines[i] = row + i < count ? load_line(x[row + i] + k, std::min(kElements, length - k)) : Simd::zero();
          Simd::transpose(lines);
        }
        float* out = reinterpret_cast<float*>(packed + panel / kPanel * panel_stride + k * kPanel) + first;
        for (int64_t i = 0; i < kW; ++i) Simd::store(out + i * kPanel, lines[i]);
      }
    }
  }
}

// total[i][0 .. kPanels * kPanel) (+)= rows[i] . each of the packed rows, over `length` of k. Calls fetch(k) once a cache line of them.
template <typename P, int kRows, int kPanels, typename Fetch>
void tile(const typename P::Scalar* packed, int64_t panel_stride, const typename P::Scalar* const* rows, int64_t length, const Fetch& fetch,
          float* total, int64_t total_stride, bool first) {
  constexpr int kPerPanel = kPanel / kW;
  constexpr int kVectors = kPanels * kPerPanel;
  constexpr int64_t kScalars = kLine<typename P::Scalar>;
  V acc[kRows][kVectors];
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVectors; ++v) acc[i][v] = first ? Simd::zero() : Simd::load(total + i * total_stride + v * kW);
  }
  const typename P::Scalar* row[kRows];
  for (int i = 0; i < kRows; ++i) row[i] = rows[i];
  for (int64_t line = 0; line < length; line += kScalars) {
    fetch(line);
    for (int64_t k = line; k < std::min(line + kScalars, length); k += P::kStep) {
      V b[kVectors];
      for (int v = 0; v < kVectors; ++v) b[v] = load_line(packed + v / kPerPanel * panel_stride + k * kPanel + v % kPerPanel * kW * P::kStep);
      for (int i = 0; i < kRows; ++i) {
        const auto a = P::broadcast(row[i] + k);
        for (int v = 0; v < kVectors; ++v) acc[i][v] = P::add(acc[i][v], a, b[v]);
      }
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVectors; ++v) Simd::store(total + i * total_stride + v * kW, acc[i][v]);
  }
}

// Stores total[column][kPanelRows].
void store_turned(const Gemm& op, Range rows, Range cols, const float* total) {
  store_outputs(op, rows, cols, [&](const auto& store) {
    for (int64_t i = 0; i < rows.size(); i += kW) {
      for (int64_t j = 0; j < cols.size(); j += kW) {
        V lines[kW];
        for (int64_t c = 0; c < kW; ++c) lines[c] = Simd::load(total + (j + c) * kPanelRows + i);
        Simd::transpose(lines);
        for (int64_t r = 0; r < std::min(kW, rows.size() - i); ++r) store(i + r, j, lines[r]);
      }
    }
  });
}

// Of all that share a packing, total[one][kPanelCols / 2][kPanelRows].
void store_all_turned(const Gemm& op, Range rows, Range cols, const float* total) {
  for (const Gemm* one = &op; one != nullptr; one = one->also, total += kPanelCols / 2 * kPanelRows) store_turned(*one, rows, cols, total);
}

struct Place {
  const Gemm* op;
  int64_t col, k;
};

// What is multiplied behind the columns before `col`: more of them, the first ones of who shares the packing, or the next stretch of all.
Place place_behind(const Gemm& first, const Gemm& one, Range cols, int64_t col, Range stretch) {
  if (col < cols.size()) return {&one, col, stretch.begin};
  if (one.also != nullptr) return {one.also, 0, stretch.begin};
  return {&first, 0, stretch.end};
}

// Pairs of bf16, in x as in what the weights become.
template <typename P, typename Row>
void many_rows(const Gemm& op, Range rows, Range cols, GemmScratch& scratch) {
  constexpr int64_t kStretch = kManyStretch;
  constexpr int64_t kPanelStride = kPanel * kStretch;
  const int64_t panels = ceil_div(rows.size(), kPanel);
  auto* packed = reinterpret_cast<bf16*>(scratch.packed);
  const bf16* x[kPanelRows];
  for (int64_t i = 0; i < rows.size(); ++i) x[i] = row_of<bf16>(op, rows.begin + i);
  for (int64_t k = 0; k < op.k; k += kStretch) {
    const int64_t length = std::min(kStretch, op.k - k);
    pack_rows(x, rows.size(), length, packed, kPanelStride);
    for (int64_t i = 0; i < rows.size(); ++i) x[i] += length;
    float* total = scratch.total;
    for (const Gemm* one = &op; one != nullptr; one = one->also, total += kPanelCols / 2 * kPanelRows) {
      for (int64_t col = 0; col < cols.size(); col += kManyCols) {
        Row w[kManyCols];
        Row ahead[kManyCols];
        const bf16* scalars[kManyCols];
        const Place next = place_behind(op, *one, cols, col + kManyCols, {k, k + length});
        for (int j = 0; j < kManyCols; ++j) {
          w[j] = weight_row<Row>(*one, cols, col + j) + k;
          ahead[j] = weight_row<Row>(*next.op, cols, next.col + j) + (next.k < op.k ? next.k : 0);
        }
        rows_as<bf16, P::kStep>(w, kManyCols, length, scratch.broadcast, scalars);
        in_turns<kManyPanels>(panels, [&](int64_t panel, auto count) {
          const auto fetch = [&](int64_t line) {
            for (int j = 0; panel == 0 && j < kManyCols; ++j) __builtin_prefetch(RowOf<Row>::address(ahead[j] + line));
          };
          tile<P, kManyCols, count>(packed + panel * kPanelStride, kPanelStride, scalars, length, fetch, total + col * kPanelRows + panel * kPanel,
                                    kPanelRows, k == 0);
        });
      }
    }
  }
  store_all_turned(op, rows, cols, scratch.total);
}

}  // namespace
}  // namespace moegen
