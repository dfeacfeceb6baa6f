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

// Turns codes of kW rows, kTurnedBytes of each, before it expands them, since they are a half or a quarter, and expands them just before they are
// used. load(rows, k): whether it can; then expand(use) calls use(i, line i) for all lines of kElements elements from k on. Rows are the
// same from one load to the next. Of most kinds of rows it knows nothing, and kElements is 0.
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

// Bytes of a row that are turned at once. Of rows a power of two apart few lines stay in L1: who reads a whole one has not to come back for it.
template <typename L>
constexpr int64_t kTurnedBytes = std::is_same_v<L, bf16> ? 64 : 16;

// words[i] has word i of kTurnedBytes of each of kW rows.
template <typename L, typename Row>
[[gnu::always_inline]] inline void turn_codes(const Row* rows, int64_t k, Simd::Ints* words) {
#ifdef __AVX512BF16__
  if constexpr (kTurnedBytes<L> == 64) {
    V lines[kW];
    for (int64_t j = 0; j < kW; ++j) lines[j] = Simd::load_raw(static_cast<const bf16*>((rows[j] + k).address()));
    Simd::transpose(lines);
    for (int64_t j = 0; j < kW; ++j) words[j] = Simd::as_ints(lines[j]);
    return;
  }
#endif
  const void* codes[kW];
  for (int64_t j = 0; j < kW; ++j) codes[j] = (rows[j] + k).address();
  Simd::turn_words(codes, words);
}

// Calls use(i, line i) for the lines of words [first, last), that have kInWord codes each; value(half, code) of codes that Simd took from place(s) of
// a word by Take::one or Take::pair. A loop over words, not their lines all in one: that was no faster, and half as long again to compile.
template <typename E, typename L, typename Take, typename Value, typename Use>
[[gnu::always_inline]] inline void expand_words(const Simd::Ints* words, int first_word, int last_word, const Value& value, const Use& use) {
  constexpr int kInWord = Take::kInWord;
  for (int w = first_word; w < last_word; ++w) {
#ifdef __AVX512BF16__
    if constexpr (std::is_same_v<L, bf16>) {
      const Simd::Ints first = Simd::twice<0>(words[w]), second = Simd::twice<1>(words[w]);
      for_each_index(
          std::make_integer_sequence<int, kInWord / 2>{}, [&](auto p) __attribute__((always_inline)) {
            use(w * (kInWord / 2) + p, Simd::pack({value(0, Take::template pair<p>(first)), value(1, Take::template pair<p>(second))}));
          });
      continue;
    }
#endif
    for_each_index(
        std::make_integer_sequence<int, kInWord>{}, [&](auto p) __attribute__((always_inline)) {
          use(w * kInWord + p, rounded_plain<E>(value(0, Take::template one<p>(words[w]))));
        });
  }
}

template <typename E, typename L, typename Code>
struct Turner<CodeRow<E, L, Code>> {
  using Row = CodeRow<E, L, Code>;
  static constexpr int64_t kElements = kTurnedBytes<L> * 8 / Row::kBits;
  static constexpr int kWords = kTurnedBytes<L> / 4;
  static constexpr int kParts = std::max<int>(1, kElements / kGroupUnit);  // each lies in one group
  static constexpr float kAbove = 0x1p23F;                                 // Simd takes codes with this added

  [[gnu::always_inline]] bool load(const Row* rows, int64_t k) {
    bool plain = true;
    for (int part = 0; part < kParts; ++part) {
      const auto number = static_cast<int64_t>((rows[0] + k + part * kGroupUnit).group());
      if (number != groups_[last_].number) {
        last_ = (last_ + 1) % kParts;
        groups_[last_].start(rows, number);
      }
      of_part_[part] = last_;
      plain = plain && groups_[last_].plain;
    }
    if (plain) turn_codes<L>(rows, k, words_);
    return plain;
  }
  template <typename Use>
  [[gnu::always_inline]] void expand(const Use& use) const {
    for (int part = 0; part < kParts; ++part) {
      const RowNumbers<L> zero = groups_[of_part_[part]].zero, scale = groups_[of_part_[part]].scale;
      expand_words<E, L, Simd::Codes<Row::kBits>>(
          words_, part * kWords / kParts, (part + 1) * kWords / kParts,
          [&](int half, V x) __attribute__((always_inline)) { return Simd::mul(Simd::sub(x, zero.half[half]), scale.half[half]); }, use);
    }
  }

 private:
  struct Group {
    RowNumbers<L> scale, zero;
    int64_t number = -1;
    bool plain = false;

    template <typename T>
    V gather(const Row* rows) const {
      alignas(64) T numbers[kW];
      for (int64_t j = 0; j < kW; ++j) numbers[j] = static_cast<const T*>(rows[j].scales)[number];
      return Simd::load(numbers);
    }
    void start(const Row* rows, int64_t group) {
      number = group;
      const DType dtype = rows[0].scale_dtype;
      const V scales = dtype == DType::bf16 ? gather<bf16>(rows) : dtype == DType::f16 ? gather<f16>(rows) : gather<float>(rows);
      plain = Simd::all_plain(scales, kLeastPlain, kMostPlain);
      scale.set(scales);
      alignas(64) float zeros[kW];
      for (int64_t j = 0; j < kW; ++j) zeros[j] = kAbove + static_cast<float>(rows[j].zeros != nullptr ? rows[j].zeros[group] : Row::kHalf);
      zero.set(Simd::load(zeros));
    }
  };

  Simd::Ints words_[kWords] = {};
  Group groups_[kParts];
  int of_part_[kParts] = {};
  int last_ = 0;
};

template <typename E, typename L>
struct Turner<F8Row<E, L>> {
  using Row = F8Row<E, L>;
  static constexpr int64_t kElements = kTurnedBytes<L>;
  static constexpr int kWords = kElements / 4;
  static constexpr float kUnit = 0x1p120F;  // Simd takes codes divided by it

  [[gnu::always_inline]] bool load(const Row* rows, int64_t k) {
    const int64_t block = (rows[0].at + k) >> rows[0].shift;
    if (block != block_) start_block(rows, block);
    if (!plain_ && !has_table_) return false;
    turn_codes<L>(rows, k, words_);
    bool nan = false;
    for (int word = 0; word < kWords && !has_table_; word += 4) nan = nan || Simd::any_nan(words_ + word);
    return !nan;
  }
  template <typename Use>
  [[gnu::always_inline]] void expand(const Use& use) const {
#ifdef __AVX512BF16__
    if constexpr (std::is_same_v<L, bf16>) {
      if (has_table_) {
        const Simd::F8Table table = table_;
        for (int w = 0; w < kWords; ++w) {
          const auto [first, second] = Simd::f8_lines(table, words_[w]);
          use(2 * w, first);
          use(2 * w + 1, second);
        }
        return;
      }
    }
#endif
    const RowNumbers<L> scale = scale_;
    expand_words<E, L, Simd::F8Codes>(
        words_, 0, kWords, [&](int half, V x) __attribute__((always_inline)) { return Simd::mul(x, scale.half[half]); }, use);
  }

 private:
  void start_block(const Row* rows, int64_t block) {
    block_ = block;
    alignas(64) float scales[kW];
    for (int64_t j = 0; j < kW; ++j) scales[j] = rows[j].scales[block];
    const V scale = Simd::load(scales);
#ifdef __AVX512BF16__
    if constexpr (std::is_same_v<L, bf16>) {
      has_table_ = std::all_of(scales, scales + kW, [&](float s) { return s == scales[0]; });
      if (has_table_) {
        table_ = Simd::f8_table(Simd::mul(Simd::set(scales[0]), Simd::set(kF8Unit)));
        return;
      }
    }
#endif
    plain_ = Simd::all_plain(scale, kLeastPlain, 0x1p7F);  // times kUnit
    scale_.set(Simd::mul(scale, Simd::set(kUnit)));
  }

  Simd::Ints words_[kWords] = {};
  RowNumbers<L> scale_;
  int64_t block_ = -1;
  bool plain_ = false;
  bool has_table_ = false;  // of what codes are with the scale that all rows have
#ifdef __AVX512BF16__
  Simd::F8Table table_ = {};
#endif
};

#ifdef __AVX512BF16__
template <>
struct Turner<F4Row<bf16>> {
  using Row = F4Row<bf16>;
  static constexpr int64_t kElements = kTurnedBytes<bf16> * 2;
  static constexpr int kWords = kTurnedBytes<bf16> / 4;
  static constexpr int kParts = static_cast<int>(kElements / kF4Block);
  static_assert(kParts == 4);  // whose scales are a word

  [[gnu::always_inline]] bool load(const Row* rows, int64_t k) {
    const void* scales[kW];
    for (int64_t j = 0; j < kW; ++j) {
      const Row row = rows[j] + k;
      scales[j] = row.scales + row.at / kF4Block;
    }
    const Simd::Ints words = Simd::gather_words(scales);
    bool plain = true;
    for (int part = 0; part < kParts; ++part) plain = Simd::f4_scale(words, part, scale_[part]) && plain;
    if (plain) turn_codes<bf16>(rows, k, words_);
    return plain;
  }
  template <typename Use>
  [[gnu::always_inline]] void expand(const Use& use) const {
    for (int w = 0; w < kWords; ++w) {
      for_each_index(
          std::make_integer_sequence<int, 4>{}, [&](auto p) __attribute__((always_inline)) {
            use(4 * w + p, Simd::f4_pair_line<p>(words_[w], scale_[w * kParts / kWords]));
          });
    }
  }

 private:
  Simd::Ints words_[kWords] = {};
  Simd::Ints scale_[kParts] = {};
};
#endif

#ifdef __AVX512F__
// A block of 32 codes at a time.
template <>
struct Turner<F4Row<float>> {
  using Row = F4Row<float>;
  static constexpr int64_t kElements = kF4Block;

  [[gnu::always_inline]] bool load(const Row* rows, int64_t k) {
    alignas(64) float scales[kW];
    for (int64_t j = 0; j < kW; ++j) {
      const Row row = rows[j] + k;
      scales[j] = kF4Scales[row.scales[row.at / kF4Block].bits];
    }
    turn_codes<float>(rows, k, words_);
    scale_ = Simd::load(scales);
    return true;
  }
  template <typename Use>
  [[gnu::always_inline]] void expand(const Use& use) const {
    const V scale = scale_;
    expand_words<float, float, Simd::F4Codes>(
        words_, 0, 4, [&](int, V x) __attribute__((always_inline)) { return Simd::mul(x, scale); }, use);
  }

 private:
  Simd::Ints words_[4] = {};
  V scale_ = {};
};
#endif

}  // namespace
}  // namespace moegen
