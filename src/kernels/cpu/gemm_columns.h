#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/cpu/gemm_parts.h"
#include "kernels/cpu/turner.h"

// A GEMM with columns in lanes (gemm.h). All of it has internal linkage: see simd_avx512.h.
namespace moegen {
namespace {

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

// Sums of few rows x, kFewStride apart, and of kW columns.
template <typename P, int kRows, typename Row>
struct FewSums {
  static constexpr int64_t kElements = kRowLine<Row>;
  static constexpr int64_t kOfLine = kElements / kW;  // elements of a row in a turned line
  V acc[kRows];

  [[gnu::always_inline]] void start(const float* total, int64_t stride, bool first) {
    for (int i = 0; i < kRows; ++i) acc[i] = first ? Simd::zero() : Simd::load(total + i * stride);
  }
  // A line, of elements of x.
  [[gnu::always_inline]] void add(const typename P::Scalar* x, V line) {
    if constexpr (kOfLine > P::kStep) {
      const Simd::Pairs b = Simd::split(line);
      for (int i = 0; i < kRows; ++i) acc[i] = P::add(acc[i], P::broadcast(x + i * kFewStride), b.even);
      for (int i = 0; i < kRows; ++i) acc[i] = P::add(acc[i], P::broadcast(x + i * kFewStride + 1), b.odd);
    } else {
      for (int i = 0; i < kRows; ++i) acc[i] = P::add(acc[i], P::broadcast(x + i * kFewStride), line);
    }
  }
  // Elements of w from k on that are no whole block.
  [[gnu::always_inline]] void add_rest(const typename P::Scalar* x, const Row* w, int64_t k, int64_t length) {
    if (k == length) return;
    V lines[kW];
    load_turned(w, k, length - k, lines);
    for (int64_t s = 0; k + s * kOfLine < length; ++s) add(x + k + s * kOfLine, lines[s]);
  }
  [[gnu::always_inline]] void store(float* total, int64_t stride) const {
    for (int i = 0; i < kRows; ++i) Simd::store(total + i * stride, acc[i]);
  }
};

// total[i][0 .. kW) (+)= x[i] . rows of w. A block of weights is turned into L1 while the one before is multiplied, step by step: the one
// waits for shuffles, the other for sums, and neither fills the window of the processor by itself.
template <typename P, int kRows, typename Row>
void few_tile(const typename P::Scalar* x, const Row* w, int64_t length, Ahead& ahead, float* total, int64_t total_stride, bool first) {
  using Sums = FewSums<P, kRows, Row>;
  constexpr int64_t kElements = Sums::kElements;
  alignas(64) float staged[2][kW * kW];
  Sums sums;
  sums.start(total, total_stride, first);
  const int64_t whole = length / kElements * kElements;
  float* now = staged[0];
  float* next = staged[1];
  for (int64_t r = 0; r < 4 && whole > 0; ++r) turn_lanes(w, 0, r, now);
  for (int64_t k = 0; k < whole; k += kElements) {
    const int64_t after = std::min(k + kElements, whole - kElements);
#pragma GCC unroll 4
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      for (int64_t r = lane * 4 / kLanes; r < (lane + 1) * 4 / kLanes; ++r) turn_lanes(w, after, r, next);
      V lines[4];
      turn_staged(now + lane * 4 * kW, lines);
#pragma GCC unroll 4
      for (int64_t i = 0; i < 4; ++i) {
        if (i % 2 == 0) ahead.fetch(2 * stored_bytes<Row>(kElements));
        sums.add(x + k + (lane * 4 + i) * Sums::kOfLine, lines[i]);
      }
    }
    std::swap(now, next);
  }
  sums.add_rest(x, w, whole, length);
  sums.store(total, total_stride);
}

// The same of codes, which are multiplied as they are expanded, and of some blocks of kW columns beside one another: each sum waits for the one
// before.
template <typename P, int kRows, int kAtOnce, typename Row>
void codes_tile(const typename P::Scalar* x, const Row* w, int64_t length, Ahead& ahead, float* total, int64_t total_stride, bool first) {
  using Sums = FewSums<P, kRows, Row>;
  constexpr int64_t kCodes = Turner<Row>::kElements;
  constexpr int kLinesPerFetch = static_cast<int>(128 / stored_bytes<Row>(Sums::kOfLine * kW));
  Sums sums[kAtOnce];
  Turner<Row> turner[kAtOnce];
  const auto each_block = [](const auto& f) __attribute__((always_inline)) { for_each_index(std::make_integer_sequence<int, kAtOnce>{}, f); };
  each_block([&](auto b) __attribute__((always_inline)) { sums[b].start(total + b * kW, total_stride, first); });
  int64_t k = 0;
  while (k + Sums::kElements <= length) {
    bool turned = k + kCodes <= length;
    for (int b = 0; b < kAtOnce && turned; ++b) turned = turner[b].load(w + b * kW, k);
    if (turned) {
      for (int step = 0; step < Turner<Row>::kSteps; ++step) {
        each_block([&](auto b) __attribute__((always_inline)) {
          turner[b].expand(
              step, [&](int i, V line) __attribute__((always_inline)) {
                if (i % kLinesPerFetch == 0) ahead.fetch(128);
                sums[b].add(x + k + i * Sums::kOfLine, line);
              });
        });
      }
      k += kCodes;
      continue;
    }
    each_block([&](auto b) __attribute__((always_inline)) {
      V lines[kW];
      load_turned(w + b * kW, k, lines);
      ahead.fetch(stored_bytes<Row>(Sums::kElements * kW));
      for (int64_t i = 0; i < kW; ++i) sums[b].add(x + k + i * Sums::kOfLine, lines[i]);
    });
    k += Sums::kElements;
  }
  each_block([&](auto b) __attribute__((always_inline)) {
    sums[b].add_rest(x, w + b * kW, k, length);
    sums[b].store(total + b * kW, total_stride);
  });
}

// total[i][0 .. kBlocks * kW) += x[i * kRowStride] . lines, [steps][kBlocks][kW]; calls fetch(steps) for some of them at a time.
template <typename P, int kRows, typename Fetch>
void add_lines(const typename P::Scalar* x, const float* lines, int64_t steps, const Fetch& fetch, float* total, int64_t total_stride) {
  constexpr int64_t kSome = 16;
  V acc[kRows][kBlocks];
  for (int i = 0; i < kRows; ++i) {
    for (int b = 0; b < kBlocks; ++b) acc[i][b] = Simd::load(total + i * total_stride + b * kW);
  }
  for (int64_t begin = 0; begin < steps; begin += kSome) {
    fetch(kSome);
    for (int64_t s = begin; s < std::min(begin + kSome, steps); ++s) {
      V line[kBlocks];
      for (int b = 0; b < kBlocks; ++b) line[b] = Simd::load(lines + (s * kBlocks + b) * kW);
      for (int i = 0; i < kRows; ++i) {
        const auto a = P::broadcast(x + i * kRowStride + s * P::kStep);
        for (int b = 0; b < kBlocks; ++b) acc[i][b] = P::add(acc[i][b], a, line[b]);
      }
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int b = 0; b < kBlocks; ++b) Simd::store(total + i * total_stride + b * kW, acc[i][b]);
  }
}

// A block of kW rows from element k on as lines that are multiplied, kBlocks * kW apart.
template <typename P, typename Row>
[[gnu::noinline]] void expand_lines(Turner<Row>& turner, const Row* w, int64_t k, int64_t length, float* lines) {
  constexpr int64_t kElements = kRowLine<Row>;
  constexpr int64_t kOfLine = kElements / kW;  // elements of a row in a turned line
  constexpr int64_t kStride = kBlocks * kW;
  const auto put = [&](int64_t at, V line) __attribute__((always_inline)) {
    float* to = lines + at / P::kStep * kStride;
    if constexpr (kOfLine > P::kStep) {
      const Simd::Pairs pair = Simd::split(line);
      Simd::store(to, pair.even);
      Simd::store(to + kStride, pair.odd);
    } else {
      Simd::store(to, line);
    }
  };
  int64_t at = 0;
  if constexpr (constexpr int64_t kCodes = Turner<Row>::kElements; kCodes > 0) {
    static_assert(kOfLine == P::kStep && kLineStretch % kCodes == 0);
    for (; at + kCodes <= length && turner.load(w, k + at); at += kCodes) {
      for (int step = 0; step < Turner<Row>::kSteps; ++step)
        turner.expand(
            step, [&](int i, V line) __attribute__((always_inline)) { put(at + i * kOfLine, line); });
    }
  }
  V block[kW];
  for (; at + kElements <= length; at += kElements) {
    load_turned(w, k + at, block);
    for (int64_t j = 0; j < kW; ++j) put(at + j * kOfLine, block[j]);
  }
  if (at == length) return;
  load_turned(w, k + at, length - at, block);
  for (int64_t j = 0; at + j * kOfLine < length; ++j) put(at + j * kOfLine, block[j]);
}

// total[i][0 .. kBlocks * kW) (+)= x[i * kRowStride] . rows of w, for any rows of x: a stretch of weights becomes lines in L1, once for all of them.
template <typename P, typename Row>
void lines_tile(const typename P::Scalar* x, int64_t rows, const Row* w, int64_t length, Ahead& ahead, float* total, int64_t total_stride,
                bool first) {
  constexpr int kMostRows = Simd::kGemmSums / kBlocks;
  alignas(64) float lines[kLineStretch / P::kStep * kBlocks * kW];
  if (first) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int b = 0; b < kBlocks; ++b) Simd::store(total + i * total_stride + b * kW, Simd::zero());
    }
  }
  Turner<Row> turner[kBlocks];
  const int64_t turns = ceil_div<int64_t>(rows, kMostRows);
  int64_t due = 0;  // bytes to be fetched, times turns: the fetching goes on through all of them
  for (int64_t k = 0; k < length; k += kLineStretch) {
    const int64_t some = std::min(kLineStretch, length - k);
    for (int b = 0; b < kBlocks; ++b) expand_lines<P>(turner[b], w + b * kW, k, some, lines + b * kW);
    const auto fetch = [&](int64_t steps) {
      due += stored_bytes<Row>(steps * P::kStep * kBlocks * kW);
      const int64_t now = due / turns / 128 * 128;
      ahead.fetch(now);
      due -= now * turns;
    };
    in_turns<kMostRows>(rows, [&](int64_t row, auto count) {
      add_lines<P, count>(x + row * kRowStride + k, lines, ceil_div(some, P::kStep), fetch, total + row * total_stride, total_stride);
    });
  }
}

// Stores total[row][total_stride].
void store_rows(const Gemm& op, Range rows, Range cols, const float* total, int64_t total_stride) {
  store_outputs(op, rows, cols, [&](const auto& store) {
    for (int64_t i = 0; i < rows.size(); ++i) {
      for (int64_t j = 0; j < cols.size(); j += kW) store(i, j, Simd::load(total + i * total_stride + j));
    }
  });
}

// Columns in lanes. The weights of few rows are turned while others are multiplied, those of more once for all.
template <typename P, typename X, typename Row>
void some_rows(const Gemm& op, Range rows, Range cols, GemmScratch& scratch) {
  using Scalar = typename P::Scalar;
  constexpr int64_t kStep = std::max<int64_t>(P::kStep, kRowLine<Row> / kW);  // elements of k that are multiplied one after the other, there or not
  constexpr int64_t kCols = kBlocks * kW;
  constexpr bool kCoded = Turner<Row>::kElements > 0;
  const bool few = rows.size() <= (kCoded ? Simd::kFewCodedRows : kFewRows);
  const int64_t stretch = few ? kFewStretch : kRowStretch;
  const int64_t total_stride = rows.size() <= kSomeRows ? kStreamedCols : kBlockCols;
  Ahead ahead = weights_ahead<Row>(op, cols, 0, 0, stretch, kCols);
  ahead.fetch(stored_bytes<Row>(kCols * std::min(stretch, op.k)));
  auto* room = reinterpret_cast<Scalar*>(scratch.packed);
  for (int64_t k = 0; k < op.k; k += stretch) {
    const int64_t length = std::min(stretch, op.k - k);
    const X* x[kBlockRows];
    for (int64_t i = 0; i < rows.size(); ++i) x[i] = row_of<X>(op, rows.begin + i) + k;
    convert_rows<Scalar, kStep>(x, rows.size(), length, room, few ? kFewStride : kRowStride);
    for (int64_t col = 0; col < cols.size(); col += kCols) {
      Row w[kCols];
      for (int64_t j = 0; j < kCols; ++j) w[j] = weight_row<Row>(op, cols, col + j) + k;
      const bool last = col + kCols >= cols.size();
      ahead = weights_ahead<Row>(op, cols, last ? 0 : col + kCols, last ? k + length : k, stretch, kCols);
      float* total = scratch.total + col;
      if (!few) {
        lines_tile<P>(room, rows.size(), w, length, ahead, total, total_stride, k == 0);
        continue;
      }
      if constexpr (kCoded) {
        in_turns<Simd::kFewCodedRows>(rows.size(), [&](int64_t, auto count) {  // there is one turn
          constexpr int kAtOnce = count <= Turner<Row>::kRowsOfBlocks ? kBlocks : 1;
          for (int64_t b = 0; b < kCols; b += kAtOnce * kW)
            codes_tile<P, count, kAtOnce>(room, w + b, length, ahead, total + b, total_stride, k == 0);
        });
        continue;
      }
      Ahead nothing{nullptr, 0, 0, 0};
      for (int64_t b = 0; b < kCols; b += kW) {
        in_turns<Simd::kFewSums>(rows.size(), [&](int64_t row, auto count) {
          Ahead& fetched = row == 0 ? ahead : nothing;
          few_tile<P, count>(room + row * kFewStride, w + b, length, fetched, total + row * total_stride + b, total_stride, k == 0);
        });
      }
    }
  }
  store_rows(op, rows, cols, scratch.total, total_stride);
}

}  // namespace
}  // namespace moegen
