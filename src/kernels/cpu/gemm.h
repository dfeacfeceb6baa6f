#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/checked.h"
#include "kernels/cpu/coded_rows.h"
#include "kernels/cpu/turner.h"
#include "kernels/cpu/vectors.h"
#include "kernels/functions.h"

// y = x w^T over `Products`, which the including file chose. All of it has internal linkage: see simd_avx512.h.
//
// An output is one chain of multiply-adds along k, in order, whatever is computed beside it, so that no lanes are ever added: lanes are
// rows of one operand, and the other operand's elements are broadcast from where they lie. Of many rows x is packed, a stretch of k at a
// time, and stays while the weights go by. Of few the weights are turned on their way from DRAM, a block of them while the one before is
// multiplied.
namespace moegen {
namespace {

constexpr int64_t kPanel = 16;  // rows side by side; a cache line for each step along k
constexpr int64_t kSomeRows = kGemmStreamedRows;
constexpr int64_t kBlockRows = kGemmBlockRows;
constexpr int64_t kBlockCols = kGemmBlockCols;
constexpr int64_t kStreamedCols = kGemmStreamedCols;
constexpr int kManyCols = 6;  // that are broadcast together
constexpr int64_t kFewStretch = 2048;
static_assert(kStreamedCols * kSomeRows <= kBlockCols * kBlockRows && kSomeRows * (kFewStretch * sizeof(float) + 64) <= kBlockRows * kGemmRowBytes);

// Panels of a tile that has as many columns and stays in registers.
constexpr int kManyPanels = std::clamp<int>(Simd::kGemmSums / kManyCols / (kPanel / kW), 1, 4);

template <typename T>
constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));  // elements of a cache line

// Stretch of k in which many packed rows stay in L2.
template <typename T>
constexpr int64_t kManyStretch = kGemmRowBytes / static_cast<int64_t>(sizeof(T));

struct GemmScratch {
  alignas(64) std::byte packed[kBlockRows * kGemmRowBytes];
  alignas(64) float broadcast[kManyCols * (kManyStretch<float> + kLine<float>)];  // what is not broadcast from where it lies
  alignas(64) float total[(kBlockCols + kManyCols) * kBlockRows];
};
static_assert(sizeof(GemmScratch) <= kGemmScratchBytes);

template <typename X>
const X* row_of(const Gemm& op, int64_t i) {
  return static_cast<const X*>(op.x) + (op.rows != nullptr ? op.rows[i] : i) * op.x_stride;
}

// Row j of the weights of some columns; behind them the last one again.
template <typename Row>
Row weight_row(const Gemm& op, Range cols, int64_t j) {
  return RowOf<Row>::of(op, op.w_first + std::min(cols.begin + j, cols.end - 1) * op.w_step);
}

// The rows from[i] of `length` elements as rows of T: where they are if they can stay, otherwise in `room`, zeros behind them to a
// whole step.
template <typename T, int64_t kStep, typename Row>
void rows_as(const Row* from, int64_t count, int64_t length, T* room, const T** out) {
  const int64_t padded = (length + kStep - 1) / kStep * kStep;
  for (int64_t i = 0; i < count; ++i) {
    if constexpr (std::is_same_v<const T*, Row>) {
      if (padded == length) {
        out[i] = from[i];
        continue;
      }
      std::copy_n(from[i], length, room);
      std::fill(room + length, room + padded, T{});
    } else {
      int64_t k = 0;
      if constexpr (std::is_same_v<T, typename RowOf<Row>::Lines>) {
        for (; k + kRowLine<Row> <= length; k += kRowLine<Row>) Simd::store(reinterpret_cast<float*>(room + k), load_line(from[i] + k));
      }
      for (; k < length; k += kW) store_some(room + k, load_some(from[i] + k, length - k), padded - k);
    }
    out[i] = room;
    room += padded + kLine<T>;  // rows of a power of two would share the sets of a cache
  }
}

// Fetches weights into L2 while others are computed with: in turns from the first half of them and from the second, since the processor's own
// prefetcher follows two lines of addresses further than one.
class Ahead {
 public:
  // All in bytes, but for the count of rows.
  Ahead(const void* rows, int64_t stride, int64_t count, int64_t length) : row_(static_cast<const char*>(rows)), stride_(stride) {
    const bool one = stride == length || count == 1;
    length_ = one ? round_up<int64_t>(ceil_div<int64_t>(count * length, 2), 64) : length;
    left_ = one ? std::min<int64_t>(count, 1) : ceil_div<int64_t>(count, 2);
    second_ = one ? length_ : left_ * stride;
  }
  // So many of them, of which half are from either half.
  void fetch(int64_t bytes) {
    if (left_ == 0) return;
    for (int64_t i = 0; i < bytes; i += 128) {
      __builtin_prefetch(row_ + at_ + i / 2, 0, 2);
      __builtin_prefetch(row_ + second_ + at_ + i / 2, 0, 2);
    }
    at_ += bytes / 2;
    if (at_ < length_) return;
    at_ = 0;
    row_ += stride_;
    --left_;
  }

 private:
  const char* row_;
  int64_t stride_, length_, left_, second_;
  int64_t at_ = 0;
};

// Columns from `col` on and a stretch from k on; nothing behind the last of either.
template <typename Row>
Ahead weights_ahead(const Gemm& op, Range cols, int64_t col, int64_t k, int64_t stretch, int64_t count) {
  const int64_t rows = k < op.k ? std::clamp<int64_t>(cols.size() - col, 0, count) : 0;
  return {RowOf<Row>::address(weight_row<Row>(op, cols, col) + k), stored_bytes<Row>(op.w_step * op.k), rows,
          stored_bytes<Row>(std::min(stretch, op.k - k))};
}

// packed[p][k][kPanel] of rows x[0 .. count), or [p][k / 2][kPanel][2] where they stay pairs of bf16; panels `panel_stride` elements apart; zeros
// behind them to a whole panel, and behind k to a whole vector.
template <typename T, typename Row>
void pack_rows(const Row* x, int64_t count, int64_t length, T* packed, int64_t panel_stride) {
  constexpr int64_t kElements = kRowLine<Row>;
  constexpr bool kSplit = kElements > kLineElements<T>;
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
        for (int64_t i = 0; i < kW; ++i) {
          if constexpr (kSplit) {
            const Simd::Pairs pair = Simd::split(lines[i]);
            Simd::store(out + 2 * i * kPanel, pair.even);
            Simd::store(out + (2 * i + 1) * kPanel, pair.odd);
          } else {
            Simd::store(out + i * kPanel, lines[i]);
          }
        }
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

constexpr int64_t kLanes = kW / 4;  // of four floats each

// A block of weights is turned in two steps, of which each has to wait for shuffles half as long. First the lanes: rows r, r + 4, .. of it from
// element k on become vectors r, 4 + r, .. at `staged`.
template <typename Row>
[[gnu::always_inline]] inline void turn_lanes(const Row* w, int64_t k, int64_t r, float* staged) {
  V lines[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) lines[i] = load_line(w[r + 4 * i] + k);
  Simd::turn_lanes(lines);
  for (int64_t i = 0; i < kLanes; ++i) Simd::store(staged + (4 * i + r) * kW, lines[i]);
}

// Then what is in them, four vectors at a time.
[[gnu::always_inline]] inline void turn_staged(const float* staged, V (&lines)[4]) {
  for (int64_t i = 0; i < 4; ++i) lines[i] = Simd::load(staged + i * kW);
  Simd::turn_four(lines);
}

// All rows of a block.
template <typename Row>
[[gnu::always_inline]] inline void turn_block(const Row* w, int64_t k, float* out) {
  V lines[kW];
  load_turned(w, k, lines);
  for (int64_t j = 0; j < kW; ++j) Simd::store(out + j * kW, lines[j]);
}

// total[i][0 .. kW) (+)= x[i] . rows of w. A block of weights is turned into L1 while the one before is multiplied, step by step: the one
// waits for shuffles, the other for sums, and neither fills the window of the processor by itself.
template <typename P, int kRows, typename Row>
void few_tile(const typename P::Scalar* const* x, const Row* w, int64_t length, Ahead& ahead, float* total, bool first) {
  constexpr int64_t kElements = kRowLine<Row>;
  constexpr int64_t kOfLine = kElements / kW;  // elements of a row in a turned line
  alignas(64) float staged[2][kW * kW];
  V acc[kRows];
  for (int i = 0; i < kRows; ++i) acc[i] = first ? Simd::zero() : Simd::load(total + i * kStreamedCols);
  const typename P::Scalar* row[kRows];
  for (int i = 0; i < kRows; ++i) row[i] = x[i];
  const auto multiply = [&](int64_t k, V line) __attribute__((always_inline)) {
    if constexpr (kOfLine > P::kStep) {
      const Simd::Pairs b = Simd::split(line);
      for (int i = 0; i < kRows; ++i) acc[i] = P::add(acc[i], P::broadcast(row[i] + k), b.even);
      for (int i = 0; i < kRows; ++i) acc[i] = P::add(acc[i], P::broadcast(row[i] + k + 1), b.odd);
    } else {
      for (int i = 0; i < kRows; ++i) acc[i] = P::add(acc[i], P::broadcast(row[i] + k), line);
    }
  };
  const int64_t whole = length / kElements * kElements;
  float* now = staged[0];
  float* next = staged[1];
  const auto stage = [&](int64_t k, int64_t r, float* to) __attribute__((always_inline)) {
    if constexpr (!kTurnsCodes<Row>) {
      turn_lanes(w, k, r, to);
    } else if (r == 0) {
      turn_block(w, k, to);
    }
  };
  for (int64_t r = 0; r < 4 && whole > 0; ++r) stage(0, r, now);
  for (int64_t k = 0; k < whole; k += kElements) {
    const int64_t after = std::min(k + kElements, whole - kElements);
#pragma GCC unroll 4
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      for (int64_t r = lane * 4 / kLanes; r < (lane + 1) * 4 / kLanes; ++r) stage(after, r, next);
      V lines[4];
      if constexpr (kTurnsCodes<Row>) {
        for (int64_t i = 0; i < 4; ++i) lines[i] = Simd::load(now + (lane * 4 + i) * kW);
      } else {
        turn_staged(now + lane * 4 * kW, lines);
      }
#pragma GCC unroll 4
      for (int64_t i = 0; i < 4; ++i) {
        if (i % 2 == 0) ahead.fetch(2 * stored_bytes<Row>(kElements));
        multiply(k + (lane * 4 + i) * kOfLine, lines[i]);
      }
    }
    std::swap(now, next);
  }
  if (whole < length) {
    V lines[kW];
    for (int64_t j = 0; j < kW; ++j) lines[j] = load_line(w[j] + whole, length - whole);
    Simd::transpose(lines);
    for (int64_t s = 0; whole + s * kOfLine < length; ++s) multiply(whole + s * kOfLine, lines[s]);
  }
  for (int i = 0; i < kRows; ++i) Simd::store(total + i * kStreamedCols, acc[i]);
}

// total[i][0 .. kW) += x[i] . `count` lines, from element k of x on.
template <typename P, int kRows>
void add_lines(const typename P::Scalar* const* x, int64_t k, const float* lines, int64_t count, float* total) {
  V acc[kRows];
  for (int i = 0; i < kRows; ++i) acc[i] = Simd::load(total + i * kStreamedCols);
  const typename P::Scalar* row[kRows];
  for (int i = 0; i < kRows; ++i) row[i] = x[i] + k;
#pragma GCC unroll 4
  for (int64_t s = 0; s < count; ++s) {
    const V line = Simd::load(lines + s * kW);
    for (int i = 0; i < kRows; ++i) acc[i] = P::add(acc[i], P::broadcast(row[i] + s * P::kStep), line);
  }
  for (int i = 0; i < kRows; ++i) Simd::store(total + i * kStreamedCols, acc[i]);
}

// Of `codes` rows x kW lines: those of Turner::kElements codes.
template <typename Row>
[[gnu::noinline]] void expand_block(Turner<Row>& turner, const Row* w, int64_t k, float* out) {
  if (turner.load(w, k)) {
    turner.expand([&](auto i, V line) __attribute__((always_inline)) { Simd::store(out + i * kW, line); });
  } else {
    for (int64_t at = 0; at < Turner<Row>::kElements; at += kRowLine<Row>) turn_block(w, k + at, out + at / kRowLine<Row> * kW * kW);
  }
}

// few_tile() of codes and any rows of x: a block of codes is expanded into L1, once for all rows.
template <typename P, typename Row>
void code_tile(const typename P::Scalar* const* x, int64_t rows, const Row* w, int64_t length, Ahead& ahead, float* total, bool first) {
  constexpr int64_t kElements = kRowLine<Row>;
  constexpr int64_t kCodes = Turner<Row>::kElements;
  static_assert(kElements / kW == P::kStep && kCodes % kElements == 0);
  alignas(64) float lines[2][kCodes / P::kStep * kW];
  for (int64_t i = 0; first && i < rows; ++i) Simd::store(total + i * kStreamedCols, Simd::zero());
  const int64_t turns = ceil_div<int64_t>(rows, Simd::kFewRows);
  const auto add = [&](int64_t k, const float* from, int64_t count) {
    for (int64_t turn = 0, row = 0; turn < turns; ++turn) {
      const int64_t end = rows * (turn + 1) / turns;
      with_count<Simd::kFewRows>(end - row, [&](auto n) { add_lines<P, n>(x + row, k, from, count, total + row * kStreamedCols); });
      row = end;
    }
  };
  Turner<Row> turner;
  int64_t k = 0;
  for (; k + kCodes <= length; k += kCodes) {
    float* to = lines[k / kCodes % 2];
    ahead.fetch(stored_bytes<Row>(kW * kCodes));
    expand_block(turner, w, k, to);
    add(k, to, kCodes / P::kStep);
  }
  for (; k < length; k += kElements) {
    V last[kW];
    const int64_t some = std::min(kElements, length - k);
    for (int64_t j = 0; j < kW; ++j) last[j] = some < kElements ? load_line(w[j] + k, some) : load_line(w[j] + k);
    Simd::transpose(last);
    for (int64_t j = 0; j < kW; ++j) Simd::store(lines[0] + j * kW, last[j]);
    add(k, lines[0], ceil_div(some, P::kStep));
  }
}

// Calls total(store): store(row, column, vector) adds what op says and writes to y.
template <typename Total>
void store_outputs(const Gemm& op, Range rows, Range cols, const Total& total) {
  with_activation_type(op.y_dtype, [&](auto* y_type) {
    with_weight_type(op.bias_dtype, [&](auto* bias_type) {
      using Y = std::remove_pointer_t<decltype(y_type)>;
      const auto* bias = static_cast<decltype(bias_type)>(op.bias);
      total([&](int64_t i, int64_t j, V out) {
        const int64_t some = cols.size() - j;
        Y* y = static_cast<Y*>(op.y) + (rows.begin + i) * op.y_stride + cols.begin + j;
        if (bias != nullptr) out = Simd::add(out, load_some(bias + cols.begin + j, some));
        out = Simd::mul(Simd::set(op.scale), out);
        if (op.add) out = Simd::add(load_some(y, some), out);
        store_some(y, out, some);
      });
    });
  });
}

// Stores total[row][kStreamedCols].
void store_rows(const Gemm& op, Range rows, Range cols, const float* total) {
  store_outputs(op, rows, cols, [&](const auto& store) {
    for (int64_t i = 0; i < rows.size(); ++i) {
      for (int64_t j = 0; j < cols.size(); j += kW) store(i, j, Simd::load(total + i * kStreamedCols + j));
    }
  });
}

// Stores total[column][kBlockRows].
void store_turned(const Gemm& op, Range rows, Range cols, const float* total) {
  store_outputs(op, rows, cols, [&](const auto& store) {
    for (int64_t j = 0; j < cols.size(); j += kW) {
      for (int64_t i = 0; i < rows.size(); i += kW) {
        V lines[kW];
        for (int64_t c = 0; c < kW; ++c) lines[c] = Simd::load(total + (j + c) * kBlockRows + i);
        Simd::transpose(lines);
        for (int64_t r = 0; r < std::min(kW, rows.size() - i); ++r) store(i + r, j, lines[r]);
      }
    }
  });
}

template <typename P, typename X, typename Row>
void many_rows(const Gemm& op, Range rows, Range cols, GemmScratch& scratch) {
  using Scalar = typename P::Scalar;
  constexpr int64_t kStretch = kManyStretch<Scalar>;
  constexpr int64_t kPanelStride = kPanel * kStretch;
  const int64_t panels = ceil_div(rows.size(), kPanel);
  const int64_t tiles = ceil_div<int64_t>(panels, kManyPanels);
  auto* packed = reinterpret_cast<Scalar*>(scratch.packed);
  const X* x[kBlockRows];
  for (int64_t i = 0; i < rows.size(); ++i) x[i] = row_of<X>(op, rows.begin + i);
  for (int64_t k = 0; k < op.k; k += kStretch) {
    const int64_t length = std::min(kStretch, op.k - k);
    pack_rows<Scalar>(x, rows.size(), length, packed, kPanelStride);
    for (int64_t i = 0; i < rows.size(); ++i) x[i] += length;
    for (int64_t col = 0; col < cols.size(); col += kManyCols) {
      Row w[kManyCols];
      Row ahead[kManyCols];
      const Scalar* scalars[kManyCols];
      for (int j = 0; j < kManyCols; ++j) {
        w[j] = weight_row<Row>(op, cols, col + j) + k;
        ahead[j] = weight_row<Row>(op, cols, col + j + kManyCols) + k;
      }
      rows_as<Scalar, P::kStep>(w, kManyCols, length, reinterpret_cast<Scalar*>(scratch.broadcast), scalars);
      for (int64_t t = 0, panel = 0; t < tiles; ++t) {
        const int64_t end = panels * (t + 1) / tiles;
        with_count<kManyPanels>(end - panel, [&](auto count) {
          const auto fetch = [&](int64_t line) {
            for (int j = 0; t == 0 && j < kManyCols; ++j) __builtin_prefetch(RowOf<Row>::address(ahead[j] + line));
          };
          tile<P, kManyCols, count>(packed + panel * kPanelStride, kPanelStride, scalars, length, fetch,
                                    scratch.total + col * kBlockRows + panel * kPanel, kBlockRows, k == 0);
        });
        panel = end;
      }
    }
  }
  store_turned(op, rows, cols, scratch.total);
}

// Rows beyond those whose sums stay in registers come in turns, and find the weights of the first in L2.
template <typename P, typename X, typename Row>
void few_rows(const Gemm& op, Range rows, Range cols, GemmScratch& scratch) {
  using Scalar = typename P::Scalar;
  constexpr int64_t kStep = std::max<int64_t>(P::kStep, kRowLine<Row> / kW);  // elements of k that are multiplied one after the other, there or not
  const bool in_place = std::is_same_v<X, Scalar> && op.k % kStep == 0;
  const int64_t stretch = in_place && rows.size() <= Simd::kFewRows ? op.k : kFewStretch;
  const int64_t turns = ceil_div<int64_t>(rows.size(), Simd::kFewRows);
  Ahead ahead = weights_ahead<Row>(op, cols, 0, 0, stretch, kW);
  ahead.fetch(stored_bytes<Row>(kW * std::min(stretch, op.k)));
  for (int64_t k = 0; k < op.k; k += stretch) {
    const int64_t length = std::min(stretch, op.k - k);
    const X* x[kSomeRows];
    const Scalar* scalars[kSomeRows];
    for (int64_t i = 0; i < rows.size(); ++i) x[i] = row_of<X>(op, rows.begin + i) + k;
    rows_as<Scalar, kStep>(x, rows.size(), length, reinterpret_cast<Scalar*>(scratch.packed), scalars);
    for (int64_t col = 0; col < cols.size(); col += kW) {
      Row w[kW];
      for (int64_t j = 0; j < kW; ++j) w[j] = weight_row<Row>(op, cols, col + j) + k;
      const bool last = col + kW >= cols.size();
      ahead = weights_ahead<Row>(op, cols, last ? 0 : col + kW, last ? k + length : k, stretch, kW);
      if constexpr (Turner<Row>::kElements > 0) {
        code_tile<P>(scalars, rows.size(), w, length, ahead, scratch.total + col, k == 0);
        continue;
      }
      for (int64_t turn = 0, row = 0; turn < turns; ++turn) {
        const int64_t end = rows.size() * (turn + 1) / turns;
        with_count<Simd::kFewRows>(
            end - row, [&](auto count) { few_tile<P, count>(scalars + row, w, length, ahead, scratch.total + row * kStreamedCols + col, k == 0); });
        row = end;
      }
    }
  }
  store_rows(op, rows, cols, scratch.total);
}

template <typename X, typename W>
void gemm_of(const Gemm& op, Range rows, Range cols) {
  using Row = typename RowFor<X, W>::Row;
  using Lines = typename RowOf<Row>::Lines;
  constexpr bool kPairs = Simd::kMultipliesPairs && std::is_same_v<X, bf16> && std::is_same_v<Lines, bf16>;
  using Scalar = std::conditional_t<kPairs, bf16, float>;
  auto& scratch = *static_cast<GemmScratch*>(op.scratch);
  for (int64_t row = rows.begin; row < rows.end; row += kBlockRows) {
    const Range block{row, std::min(rows.end, row + kBlockRows)};
    const bool many = block.size() > kSomeRows;
    const int64_t width = many ? kBlockCols : kStreamedCols;
    for (int64_t col = cols.begin; col < cols.end; col += width) {
      const Range part{col, std::min(cols.end, col + width)};
      if (many) {
        many_rows<Products<Scalar>, X, Row>(op, block, part, scratch);
      } else {
        few_rows<Products<Scalar>, X, Row>(op, block, part, scratch);
      }
    }
  }
}

void gemm(const Gemm& op, Range rows, Range cols) {
  with_activation_type(op.x_dtype, [&](auto* x_type) {
    with_matrix_type(op.w_dtype, [&](auto* w_type) {
      gemm_of<std::remove_pointer_t<decltype(x_type)>, std::remove_cv_t<std::remove_pointer_t<decltype(w_type)>>>(op, rows, cols);
    });
  });
}

}  // namespace
}  // namespace moegen
