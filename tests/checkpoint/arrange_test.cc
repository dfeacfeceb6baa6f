#include "checkpoint/arrange.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

namespace moegen {
namespace {

TEST(Arrange, ColumnsBecomeRowsWhereverTheyLie) {
  for (const size_t size : {1U, 2U, 4U}) {
    for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 1}, {1, 70}, {70, 1}, {33, 65}, {130, 64}, {16, 257}}) {
      std::vector<std::byte> from(static_cast<size_t>(rows * cols) * size + 1), to(from.size());
      for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::byte>(i * 31 >> 3);
      const Arrangement op{.form = Form::turned, .from = from.data() + 1, .to = to.data() + 1, .rows = rows, .cols = cols, .element_bytes = size};
      arrange(op, 0, rows / 3);
      arrange(op, rows / 3, rows);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < cols; ++c)
          ASSERT_EQ(std::memcmp(op.to + static_cast<size_t>(r * cols + c) * size, op.from + static_cast<size_t>(c * rows + r) * size, size), 0);
      }
    }
  }
}

// A file with code (r, c) where `place` says, counted in codes, and what must come of it.
struct Codes {
  int64_t rows, cols;
  int bits;
  std::vector<uint32_t> codes = {};
  std::vector<std::byte> file = {};

  template <typename Place>
  Codes& put(std::mt19937& rng, int less, const Place& place) {
    file.assign(static_cast<size_t>((rows + 7) / 8 * 8 * cols * bits / 8) + 1, std::byte{});
    for (int64_t i = 0; i < rows * cols; ++i) {
      codes.push_back(rng() % (1U << bits));
      const uint64_t bit = static_cast<uint64_t>(place(i / cols, i % cols)) * static_cast<uint64_t>(bits);
      const uint32_t stored = (codes.back() - static_cast<uint32_t>(less)) & ((1U << bits) - 1);
      file[1 + bit / 8] |= static_cast<std::byte>(stored << bit % 8);
    }
    return *this;
  }
  void check(Form form, bool zeros) const {
    std::vector<std::byte> to(static_cast<size_t>(rows * cols) + 1);
    const Arrangement op{.form = form, .from = file.data() + 1, .to = to.data() + 1, .rows = rows, .cols = cols, .code_bits = bits, .zeros = zeros};
    arrange(op, 0, rows / 3);
    arrange(op, rows / 3, rows);
    for (size_t i = 0; i < codes.size(); ++i) {
      const auto byte = std::to_integer<uint32_t>(op.to[!zeros && bits == 4 ? i / 2 : i]);
      ASSERT_EQ(!zeros && bits == 4 ? byte >> (i % 2 * 4) & 15U : byte, codes[i]) << "form " << static_cast<int>(form) << " at " << i;
    }
  }
};

TEST(Arrange, CodesAreTakenFromTheirWords) {
  std::mt19937 rng(3);
  for (const int bits : {4, 8}) {
    const int64_t in_word = 32 / bits;
    for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{8, 32}, {40, 96}, {136, 64}}) {
      const auto at = [&](int64_t word, int64_t place) { return word * in_word + place; };
      Codes{rows, cols, bits}
          .put(rng, 0, [&](int64_t r, int64_t c) { return at(c / in_word * rows + r, c % in_word); })
          .check(Form::words_along, false);
      const auto by_rows = [&](int64_t r, int64_t c) { return at(c * (rows / in_word) + r / in_word, r % in_word); };
      Codes{rows, cols, bits}.put(rng, 0, by_rows).check(Form::words, true);
      Codes{rows, cols, bits}.put(rng, 1, by_rows).check(Form::words_less_one, true);
      Codes{rows - 3, cols, bits}
          .put(rng, 0, [&](int64_t r, int64_t c) { return at(r / in_word * cols + c, r % in_word); })
          .check(Form::words_down, true);
      Codes{rows, cols, 8}.put(rng, 128, [&](int64_t r, int64_t c) { return r * cols + c; }).check(Form::signed_bytes, false);
      if (bits == 8) continue;
      const auto awq = [&](int64_t r, int64_t c) {
        const int order[] = {0, 2, 4, 6, 1, 3, 5, 7};
        return at(c * (rows / 8) + r / 8, std::find(order, order + 8, r % 8) - order);
      };
      Codes{rows, cols, 4}.put(rng, 0, awq).check(Form::awq_words, false);
      Codes{rows, cols, 4}.put(rng, 0, awq).check(Form::awq_words, true);
    }
  }
}

}  // namespace
}  // namespace moegen
