#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/checked.h"
#include "kernels/cpu/coded_rows.h"
#include "kernels/cpu/vectors.h"
#include "kernels/functions.h"

// What both ways through a GEMM share (gemm.h). All of it has internal linkage: see simd_avx512.h.
namespace moegen {
namespace {

constexpr int64_t kSomeRows = kGemmStreamedRows;
constexpr int64_t kBlockRows = kGemmBlockRows;
constexpr int64_t kPanel = 16;       // rows side by side in lanes; a cache line for each step along k
constexpr int64_t kMostApart = 10;   // rows behind whole panels for which turning weights is cheaper than idle lanes
constexpr int64_t kPanelRows = 128;  // packed for lanes or tiles at a time
constexpr int64_t kPanelCols = kGemmBlockCols;
constexpr int64_t kBlockCols = kPanelCols * kPanelRows / kBlockRows;
constexpr int64_t kStreamedCols = kGemmStreamedCols;
constexpr int64_t kBlocks = 2;                                                                // of columns, side by side in lanes
constexpr int kManyCols = 6;                                                                  // that are broadcast together
constexpr int64_t kFewRows = std::min<int64_t>(Simd::kFewTurns * Simd::kFewSums, kSomeRows);  // which are multiplied while weights are turned
constexpr int64_t kFewStretch = 2048;
constexpr int64_t kFewStride = kFewStretch + 16;
constexpr int64_t kRowStretch = 256;              // of k, of some rows: a block of them stays in L2
constexpr int64_t kRowStride = kRowStretch + 16;  // elements; of a power of two they would share the sets of a cache
constexpr int64_t kLineStretch = 128;             // whose weights stay in L1 as lines
static_assert(kStreamedCols * kSomeRows <= kBlockCols * kBlockRows && kGemmColUnit % (kBlocks * kW) == 0 && kPanelCols / 2 % kManyCols == 0);

template <typename T>
constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));  // elements of a cache line

// Stretch of k in which many packed rows stay in L2.
constexpr int64_t kManyStretch = kGemmRowBytes / static_cast<int64_t>(sizeof(bf16));

struct GemmScratch {
  alignas(64) std::byte packed[kBlockRows * kRowStride * sizeof(float)];
  alignas(64) bf16 broadcast[kManyCols * (kManyStretch + kLine<bf16>)];  // what is not broadcast from where it lies
  alignas(64) float total[kBlockCols * kBlockRows];
};
static_assert(sizeof(GemmScratch) <= kGemmScratchBytes && sizeof(GemmScratch::packed) >= kFewRows * kFewStride * sizeof(float) &&
              sizeof(GemmScratch::packed) >= kPanelRows * kManyStretch * sizeof(bf16));

template <typename X>
const X* row_of(const Gemm& op, int64_t i) {
  return static_cast<const X*>(op.x) + (op.rows != nullptr ? op.rows[i] : i) * op.x_stride;
}

// Row j of the weights of some columns; behind them the last one again.
template <typename Row>
Row weight_row(const Gemm& op, Range cols, int64_t j) {
  return RowOf<Row>::of(op, op.w_first + std::min(cols.begin + j, cols.end - 1) * op.w_step);
}

// The rows from[i] of `length` elements as rows of T in `room`, so many elements apart, zeros behind them to a whole step.
template <typename T, int64_t kStep, typename Row>
void convert_rows(const Row* from, int64_t count, int64_t length, T* room, int64_t stride) {
  const int64_t padded = round_up(length, kStep);
  for (int64_t i = 0; i < count; ++i, room += stride) {
    if constexpr (std::is_same_v<const T*, Row>) {
      std::copy_n(from[i], length, room);
      std::fill(room + length, room + padded, T{});
    } else {
      int64_t k = 0;
      if constexpr (std::is_same_v<T, typename RowOf<Row>::Lines>) {
        for (; k + kRowLine<Row> <= length; k += kRowLine<Row>) Simd::store(reinterpret_cast<float*>(room + k), load_line(from[i] + k));
      }
      for (; k < length; k += kW) store_some(room + k, load_some(from[i] + k, length - k), padded - k);
    }
  }
}

// Likewise, but where they are if they can stay there.
template <typename T, int64_t kStep, typename Row>
void rows_as(const Row* from, int64_t count, int64_t length, T* room, const T** out) {
  const int64_t padded = round_up(length, kStep);
  if constexpr (std::is_same_v<const T*, Row>) {
    if (padded == length) {
      std::copy_n(from, count, out);
      return;
    }
  }
  convert_rows<T, kStep>(from, count, length, room, padded + kLine<T>);
  for (int64_t i = 0; i < count; ++i) out[i] = room + i * (padded + kLine<T>);
}

// Calls f(first, count as a constant) for turns of at most kMost of so many rows, as even as can be.
template <int kMost, typename F>
void in_turns(int64_t rows, const F& f) {
  const int64_t turns = ceil_div<int64_t>(rows, kMost);
  for (int64_t turn = 0, row = 0; turn < turns; ++turn) {
    const int64_t end = rows * (turn + 1) / turns;
    with_count<kMost>(end - row, [&](auto count) { f(row, count); });
    row = end;
  }
}

// Fetches weights into L2 while others are computed with.
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
    fetch_two_lines(row_ + at_, second_, bytes);
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

}  // namespace
}  // namespace moegen
