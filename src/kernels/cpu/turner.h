#pragma once

#include <algorithm>
#include <bit>
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
// used. load(rows, k): whether it can; then expand(step, use) for each of kSteps calls use(i, line i) for all lines of kElements elements from k on.
// Rows are the same from one load to the next. Of most kinds of rows it knows nothing, and kElements is 0.
template <typename Row>
struct Turner {
  static constexpr int64_t kElements = 0;
  static constexpr int kRowsOfBlocks = 0;  // up to so many rows x sums are waited for longer than codes
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
  template <typename Of>
  [[gnu::always_inline]] void set(V x, const Of& of) {
#ifdef __AVX512BF16__
    if constexpr (std::is_same_v<L, bf16>) {
      half[0] = of(Simd::twice<0>(x));
      half[1] = of(Simd::twice<1>(x));
      return;
    }
#endif
    half[0] = of(x);
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
  Simd::turn_words<16>(codes, words);
}

// Calls use(i, line i) for the lines of word w, which has kInWord codes; value(place, half, code) of codes that Simd took from place(s) of a word by
// Take::one or Take::pair.
template <typename E, typename L, typename Take, typename Value, typename Use>
[[gnu::always_inline]] inline void expand_word(Simd::Ints word, int w, const Value& value, const Use& use) {
  constexpr int kInWord = Take::kInWord;
  constexpr std::integral_constant<int, 0> first_half;
  [[maybe_unused]] constexpr std::integral_constant<int, 1> second_half;
#ifdef __AVX512BF16__
  if constexpr (std::is_same_v<L, bf16>) {
    const Simd::Ints first = Simd::twice<0>(word), second = Simd::twice<1>(word);
    for_each_index(
        std::make_integer_sequence<int, kInWord / 2>{}, [&](auto p) __attribute__((always_inline)) {
          use(w * (kInWord / 2) + p,
              Simd::pack({value(p, first_half, Take::template pair<p>(first)), value(p, second_half, Take::template pair<p>(second))}));
        });
    return;
  }
#endif
  for_each_index(
      std::make_integer_sequence<int, kInWord>{}, [&](auto p) __attribute__((always_inline)) {
        use(w * kInWord + p, rounded_plain<E>(value(p, first_half, Take::template one<p>(word))));
      });
}

template <typename E, typename L, typename Code>
struct Turner<CodeRow<E, L, Code>> {
  using Row = CodeRow<E, L, Code>;
  static constexpr int64_t kElements = kTurnedBytes<L> * 8 / Row::kBits;
  static constexpr int kWords = kTurnedBytes<L> / 4;
  static constexpr int kParts = std::max<int>(1, kElements / kGroupUnit);  // each lies in one group
  static constexpr int kRowsOfBlocks = 0;
  static constexpr float kAbove = 0x1p23F;  // Simd takes codes with this added, at their places
  static constexpr int kPlaces = 16 / Row::kBits;
  static constexpr int kSteps = kParts;
  static constexpr int kGroups = 4;  // whose numbers are fetched at once
  static_assert(kParts <= kGroups);

  [[gnu::always_inline]] bool load(const Row* rows, int64_t k) {
    const auto group = [&](int part) { return static_cast<int64_t>((rows[0] + k + part * kGroupUnit).group()); };
    if (const int64_t first = group(0); first < first_ || group(kParts - 1) >= first_ + kGroups) start(rows, first);
    if (!plain_) return false;
    for (int part = 0; part < kParts; ++part) of_part_[part] = static_cast<int>(group(part) - first_);
    turn_codes<L>(rows, k, words_);
    return true;
  }
  template <typename Use>
  [[gnu::always_inline]] void expand(int part, const Use& use) const {
    const Group group = groups_[of_part_[part]];
    for (int w = part * kWords / kParts; w < (part + 1) * kWords / kParts; ++w) {
      expand_word<E, L, Simd::Codes<Row::kBits>>(
          words_[w], w,
          [&](auto place, auto half, V x) __attribute__((always_inline)) {
            constexpr int i = place % kOfHalf;
            return Simd::mul(Simd::sub(x, group.zero[i].half[half]), group.scale[i].half[half]);
          },
          use);
    }
  }

 private:
  // Of the places in half a word, or of pairs of them.
  static constexpr int kOfHalf = std::is_same_v<L, bf16> ? kPlaces / 2 : kPlaces;
  struct Group {
    RowNumbers<L> scale[kOfHalf], zero[kOfHalf];
    void set_scales(V x) {
      for (int i = 0; i < kOfHalf; ++i) scale[i].set(x, [i](V s) { return Simd::mul(s, of_places(i, -Row::kBits)); });
    }
    void set_zeros(V x) {
      for (int i = 0; i < kOfHalf; ++i) zero[i].set(x, [i](V z) { return Simd::add(Simd::mul(z, of_places(i, Row::kBits)), Simd::set(kAbove)); });
    }
    // 2 to the `bits` for each place.
    static V of_places(int i, int bits) {
      const auto unit = [bits](int place) { return bits < 0 ? 1 / static_cast<float>(1 << -bits * place) : static_cast<float>(1 << bits * place); };
#ifdef __AVX512BF16__
      if constexpr (std::is_same_v<L, bf16>) return Simd::alternating(unit(2 * i), unit(2 * i + 1));
#endif
      return Simd::set(unit(i));
    }
  };

  // Groups from `first` on, as many of four as there are.
  void start(const Row* rows, int64_t first) {
    first_ = first;
    if (rows[0].scale_dtype == DType::f32) {
      start_as<float>(rows);
    } else {
      start_as<bf16>(rows);  // f16 are as long
    }
  }
  template <typename T>
  void start_as(const Row* rows) {
    const bool whole = first_ + kGroups <= rows[0].groups;
    T some_scales[kW][kGroups];
    uint8_t some_zeros[kW][kGroups];
    const void* at[kW];
    for (int64_t j = 0; j < kW; ++j) {
      const T* scales = static_cast<const T*>(rows[j].scales) + first_;
      at[j] = whole ? scales : copy_rest(scales, rows[0].groups - first_, some_scales[j]);
    }
    Simd::Ints words[4];
    Simd::turn_words<kGroups * sizeof(T)>(at, words);
    V scales[kGroups];
    for (int g = 0; g < kGroups; g += 4 / static_cast<int>(sizeof(T))) {
      if constexpr (sizeof(T) == sizeof(float)) {
        scales[g] = std::bit_cast<V>(words[g]);
      } else {
        const bool halves = rows[0].scale_dtype == DType::f16;
        const Simd::Pairs pair = halves ? Simd::split_f16(words[g / 2]) : Simd::split(std::bit_cast<V>(words[g / 2]));
        scales[g] = pair.even;
        scales[g + 1] = pair.odd;
      }
    }
    plain_ = true;
    for (int g = 0; g < kGroups; ++g) {
      plain_ = plain_ && Simd::all_plain(scales[g], kLeastPlain, kMostPlain);
      groups_[g].set_scales(scales[g]);
    }
    if (rows[0].zeros == nullptr) {  // the same for all groups
      if (!has_zeros_) {
        for (Group& group : groups_) group.set_zeros(Simd::set(Row::kHalf));
      }
      has_zeros_ = true;
      return;
    }
    for (int64_t j = 0; j < kW; ++j) {
      const uint8_t* zeros = rows[j].zeros + first_;
      at[j] = whole ? zeros : copy_rest(zeros, rows[0].groups - first_, some_zeros[j]);
    }
    Simd::turn_words<kGroups>(at, words);
    for (int g = 0; g < kGroups; ++g) groups_[g].set_zeros(Simd::byte_of(words[0], g));
  }
  template <typename T>
  static const T* copy_rest(const T* from, int64_t rest, T* to) {
    for (int64_t i = 0; i < kGroups; ++i) to[i] = i < rest ? from[i] : T{};
    return to;
  }

  Simd::Ints words_[kWords] = {};
  Group groups_[kGroups];
  int of_part_[kParts] = {};
  int64_t first_ = -kGroups;
  bool plain_ = false;
  bool has_zeros_ = false;
};

template <typename E, typename L>
struct Turner<F8Row<E, L>> {
  using Row = F8Row<E, L>;
  static constexpr int64_t kElements = kTurnedBytes<L>;
  static constexpr int kWords = kElements / 4;
  static constexpr int kSteps = 1;
  static constexpr int kRowsOfBlocks = 0;
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
  [[gnu::always_inline]] void expand(int, const Use& use) const {
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
    for (int w = 0; w < kWords; ++w) {
      expand_word<E, L, Simd::F8Codes>(
          words_[w], w, [&](auto, auto half, V x) __attribute__((always_inline)) { return Simd::mul(x, scale.half[half]); }, use);
    }
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
    scale_.set(scale, [](V x) { return Simd::mul(x, Simd::set(kUnit)); });
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
  static constexpr int kSteps = kWords;
  static constexpr int kParts = static_cast<int>(kElements / kF4Block);
  static constexpr int kRowsOfBlocks = 2;
  static_assert(kParts == 4);  // whose scales are a word

  [[gnu::always_inline]] bool load(const Row* rows, int64_t k) {
    const void* scales[kW];
    for (int64_t j = 0; j < kW; ++j) {
      const Row row = rows[j] + k;
      scales[j] = row.scales + row.at / kF4Block;
    }
    Simd::Ints words[4];
    Simd::turn_words<kParts>(scales, words);
    bool plain = true;
    for (int part = 0; part < kParts; ++part) plain = Simd::f4_scale(words[0], part, offsets_[part]) && plain;
    if (plain) turn_codes<bf16>(rows, k, words_);
    return plain;
  }
  template <typename Use>
  [[gnu::always_inline]] void expand(int w, const Use& use) const {
    for_each_index(
        std::make_integer_sequence<int, 4>{}, [&](auto p) __attribute__((always_inline)) {
          use(4 * w + p, Simd::f4_pair_line<p>(words_[w], offsets_[w * kParts / kWords]));
        });
  }

 private:
  Simd::Ints words_[kWords] = {};
  Simd::Ints offsets_[kParts] = {};
};
#endif

#ifdef __AVX512F__
// A block of 32 codes at a time.
template <>
struct Turner<F4Row<float>> {
  using Row = F4Row<float>;
  static constexpr int64_t kElements = kF4Block;
  static constexpr int kWords = 4;
  static constexpr int kSteps = 1;
  static constexpr int kRowsOfBlocks = 0;

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
  [[gnu::always_inline]] void expand(int, const Use& use) const {
    const V scale = scale_;
    for (int w = 0; w < kWords; ++w) {
      expand_word<float, float, Simd::F4Codes>(
          words_[w], w, [&](auto, auto, V x) __attribute__((always_inline)) { return Simd::mul(x, scale); }, use);
    }
  }

 private:
  Simd::Ints words_[kWords] = {};
  V scale_ = {};
};
#endif

}  // namespace
}  // namespace moegen
