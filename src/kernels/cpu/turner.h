#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "kernels/cpu/coded_rows.h"

// Blocks of coded rows, turned before they are expanded. All of it has internal linkage: see simd_avx512.h.
namespace moegen {
namespace {

// Calls f(constant 0), ... f(constant n - 1).
template <typename F, int... kIndices>
[[gnu::always_inline]] inline void for_each_index(std::integer_sequence<int, kIndices...>, const F& f) {
  (f(std::integral_constant<int, kIndices>{}), ...);
}

// Turns codes of kW rows, 16 bytes of each (or 32, where these are less than a line), before it expands them, since they are a half or a quarter, and
// expands them just before they are used. load(rows, k): whether it can; then expand(use) calls use(constant i, line i) for all lines of kElements
// elements from k on. Rows are the same from one load to the next. Of most kinds of rows it knows nothing, and kElements is 0.
template <typename Row>
struct Turner {
  static constexpr int64_t kElements = 0;
};

constexpr float kLeastPlain = 0x1p-100F;  // scales between these, and 0, leave all that is computed here a normal number, or 0
constexpr float kMostPlain = 0x1p100F;

// To bf16, as a float. The sum and the difference leave 24 - 16 bits of x, rounded to nearest (T. J. Dekker, A floating-point technique for extending
// the available precision, 1971, section 5), ties to even: x + x / 2^16 is a tie too, and goes to an even number, where that of x does.
template <typename E>
[[gnu::always_inline]] inline V rounded_plain(V x) {
  if constexpr (std::is_same_v<E, bf16>) {
    const V large = Simd::mul(x, Simd::set(65537));
    return Simd::sub(large, Simd::sub(large, x));
  } else {
    return x;
  }
}

// A number of each row, lanes of which lie where those of lines do. Of pairs: twice, side by side, of the first and of the second half of the rows.
template <typename L>
struct RowNumbers {
  V half[std::is_same_v<L, bf16> ? 2 : 1] = {};
  void set(V x) {
    half[0] = x;
#ifdef __AVX512BF16__
    if constexpr (std::is_same_v<L, bf16>) {
      half[0] = Simd::twice<0>(x);
      half[1] = Simd::twice<1>(x);
    }
#endif
  }
};

// Calls use(i, line i) for the lines of words that have kInWord codes each; value(half, code) of codes that Simd took from place(s) of a word by
// Take::one or Take::pair.
template <typename E, typename L, typename Take, int kWords, typename Value, typename Use>
[[gnu::always_inline]] inline void expand_words(const Simd::Ints (&words)[kWords], const Value& value, const Use& use) {
  constexpr int kInWord = Take::kInWord;
#ifdef __AVX512BF16__
  if constexpr (std::is_same_v<L, bf16>) {
    for_each_index(
        std::make_integer_sequence<int, kWords>{}, [&](auto w) __attribute__((always_inline)) {
          const Simd::Ints first = Simd::twice<0>(words[w]), second = Simd::twice<1>(words[w]);
          for_each_index(
              std::make_integer_sequence<int, kInWord / 2>{}, [&](auto p) __attribute__((always_inline)) {
                use(std::integral_constant<int, w*(kInWord / 2) + p>{},
                    Simd::pack({value(0, Take::template pair<p>(first)), value(1, Take::template pair<p>(second))}));
              });
        });
    return;
  }
#endif
  for_each_index(
      std::make_integer_sequence<int, kWords * kInWord>{}, [&](auto i) __attribute__((always_inline)) {
        use(i, rounded_plain<E>(value(0, Take::template one<i % kInWord>(words[i / kInWord]))));
      });
}

template <typename E, typename L, typename Code>
struct Turner<CodeRow<E, L, Code>> {
  using Row = CodeRow<E, L, Code>;
  static constexpr int64_t kElements = std::max<int64_t>(128 / Row::kBits, kLineElements<L>);
  static constexpr int kWords = static_cast<int>(kElements) * Row::kBits / 32;
  static constexpr float kAbove = 0x1p23F;  // Simd takes codes with this added

  [[gnu::always_inline]] bool load(const Row* rows, int64_t k) {
    const Row first = rows[0] + k;
    if (static_cast<int64_t>(first.group()) != group_) start_group(rows, static_cast<int64_t>(first.group()));
    if (!plain_) return false;
    for (int word = 0; word < kWords; word += 4) {
      const void* codes[kW];
      for (int64_t j = 0; j < kW; ++j) codes[j] = (rows[j] + k + word * 32 / Row::kBits).code();
      Simd::turn_words(codes, words_ + word);
    }
    return true;
  }
  template <typename Use>
  [[gnu::always_inline]] void expand(const Use& use) const {
    expand_words<E, L, Simd::Codes<Row::kBits>>(
        words_, [&](int half, V x) __attribute__((always_inline)) { return Simd::mul(Simd::sub(x, zero_.half[half]), scale_.half[half]); }, use);
  }

 private:
  template <typename T>
  static V gather(const Row* rows, int64_t group) {
    alignas(64) T numbers[kW];
    for (int64_t j = 0; j < kW; ++j) numbers[j] = static_cast<const T*>(rows[j].scales)[group];
    return Simd::load(numbers);
  }
  void start_group(const Row* rows, int64_t group) {
    group_ = group;
    const DType dtype = rows[0].scale_dtype;
    const V scale = dtype == DType::bf16 ? gather<bf16>(rows, group) : dtype == DType::f16 ? gather<f16>(rows, group) : gather<float>(rows, group);
    plain_ = Simd::all_plain(scale, kLeastPlain, kMostPlain);
    scale_.set(scale);
    alignas(64) float zeros[kW];
    for (int64_t j = 0; j < kW; ++j) zeros[j] = kAbove + static_cast<float>(rows[j].zeros != nullptr ? rows[j].zeros[group] : Row::kHalf);
    zero_.set(Simd::load(zeros));
  }

  Simd::Ints words_[kWords] = {};
  RowNumbers<L> scale_, zero_;
  int64_t group_ = -1;
  bool plain_ = false;
};

template <typename E, typename L>
struct Turner<F8Row<E, L>> {
  using Row = F8Row<E, L>;
  static constexpr int64_t kElements = std::max<int64_t>(16, kLineElements<L>);
  static constexpr int kWords = static_cast<int>(kElements) / 4;
  static constexpr float kUnit = 0x1p120F;  // Simd takes codes divided by it

  [[gnu::always_inline]] bool load(const Row* rows, int64_t k) {
    const int64_t block = (rows[0].at + k) >> rows[0].shift;
    if (block != block_) start_block(rows, block);
    if (!plain_) return false;
    bool nan = false;
    for (int word = 0; word < kWords; word += 4) {
      const void* codes[kW];
      for (int64_t j = 0; j < kW; ++j) codes[j] = (rows[j] + k + word * 4).address();
      Simd::turn_words(codes, words_ + word);
      nan = nan || Simd::any_nan(words_ + word);
    }
    return !nan;
  }
  template <typename Use>
  [[gnu::always_inline]] void expand(const Use& use) const {
    expand_words<E, L, Simd::F8Codes>(
        words_, [&](int half, V x) __attribute__((always_inline)) { return Simd::mul(x, scale_.half[half]); }, use);
  }

 private:
  void start_block(const Row* rows, int64_t block) {
    block_ = block;
    alignas(64) float scales[kW];
    for (int64_t j = 0; j < kW; ++j) scales[j] = rows[j].scales[block];
    const V scale = Simd::load(scales);
    plain_ = Simd::all_plain(scale, kLeastPlain, 0x1p7F);  // times kUnit
    scale_.set(Simd::mul(scale, Simd::set(kUnit)));
  }

  Simd::Ints words_[kWords] = {};
  RowNumbers<L> scale_;
  int64_t block_ = -1;
  bool plain_ = false;
};

#ifdef __AVX512F__
// A block of 32 codes at a time. (Of pairs load_turned() has a way that is better.)
template <>
struct Turner<F4Row<float>> {
  using Row = F4Row<float>;
  static constexpr int64_t kElements = kF4Block;

  [[gnu::always_inline]] bool load(const Row* rows, int64_t k) {
    const void* codes[kW];
    alignas(64) float scales[kW];
    for (int64_t j = 0; j < kW; ++j) {
      const Row row = rows[j] + k;
      codes[j] = row.address();
      scales[j] = kF4Scales[row.scales[row.at / kF4Block].bits];
    }
    Simd::turn_words(codes, words_);
    scale_ = Simd::load(scales);
    return true;
  }
  template <typename Use>
  [[gnu::always_inline]] void expand(const Use& use) const {
    expand_words<float, float, Simd::F4Codes>(
        words_, [&](int, V x) __attribute__((always_inline)) { return Simd::mul(x, scale_); }, use);
  }

 private:
  Simd::Ints words_[4] = {};
  V scale_ = {};
};
#endif

}  // namespace
}  // namespace moegen
