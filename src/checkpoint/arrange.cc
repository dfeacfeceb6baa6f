#include "checkpoint/arrange.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace moegen {
namespace {

// In squares of which both sides stay in the L1 cache.
template <typename T>
void turn(const Arrangement& op, int64_t cols, int64_t begin, int64_t end) {
  constexpr int64_t kSide = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t row = begin; row < end; row += kSide) {
    for (int64_t col = 0; col < cols; col += kSide) {
      for (int64_t r = row; r < std::min(end, row + kSide); ++r) {
        for (int64_t c = col; c < std::min(cols, col + kSide); ++c) {
          std::memcpy(op.to + static_cast<size_t>(r * cols + c) * sizeof(T), op.from + static_cast<size_t>(c * op.rows + r) * sizeof(T), sizeof(T));
        }
      }
    }
  }
}

void turn_elements(const Arrangement& op, int64_t begin, int64_t end) {
  if (op.element_bytes == 1) return turn<uint8_t>(op, op.cols, begin, end);
  if (op.element_bytes == 2) return turn<uint16_t>(op, op.cols, begin, end);
  MOEGEN_CHECK(op.element_bytes == 4);
  turn<uint32_t>(op, op.cols, begin, end);
}

uint32_t word_at(const Arrangement& op, int64_t i) {
  uint32_t word;
  std::memcpy(&word, op.from + i * 4, sizeof(word));
  return word;
}

// Where the code of row r of eight is in a word, counted in codes.
int place_of(Form form, int64_t r) {
  constexpr int kAwq[] = {0, 4, 1, 5, 2, 6, 3, 7};
  return form == Form::awq_words ? kAwq[r] : static_cast<int>(r);
}

// A byte for each code.
void unpack_zeros(const Arrangement& op, int64_t begin, int64_t end) {
  const int64_t in_word = 32 / op.code_bits;
  const uint32_t mask = (1U << op.code_bits) - 1;
  for (int64_t r = begin; r < end; ++r) {
    const int shift = place_of(op.form, r % in_word) * op.code_bits;
    for (int64_t c = 0; c < op.cols; ++c) {
      const int64_t at = op.form == Form::words_down ? r / in_word * op.cols + c : c * (op.rows / in_word) + r / in_word;
      const uint32_t code = word_at(op, at) >> shift;
      op.to[r * op.cols + c] = static_cast<std::byte>((op.form == Form::words_less_one ? code + 1 : code) & mask);
    }
  }
}

// Two neighbours in a row come from two words. A word has eight rows: as long as they are worked on, lines of both sides stay in the L1 cache.
void unpack_awq(const Arrangement& op, int64_t begin, int64_t end) {
  constexpr int64_t kCols = 64;
  const int64_t words = op.rows / 8;
  for (int64_t first = begin; first < end; first += 8 - first % 8) {
    for (int64_t col = 0; col < op.cols; col += kCols) {
      for (int64_t r = first; r < std::min(end, first + 8 - first % 8); ++r) {
        const int shift = place_of(op.form, r % 8) * 4;
        for (int64_t c = col; c < std::min(op.cols, col + kCols); c += 2) {
          const uint32_t low = word_at(op, c * words + r / 8) >> shift & 15U, high = word_at(op, (c + 1) * words + r / 8) >> shift & 15U;
          op.to[(r * op.cols + c) / 2] = static_cast<std::byte>(low | high << 4);
        }
      }
    }
  }
}

}  // namespace

Arrangement arrangement_of(const TensorSpec& spec, DType dtype) {
  if (spec.form == Form::rows) return {};
  return {.form = spec.form,
          .rows = spec.shape[0],
          .cols = spec.shape[1],
          .element_bytes = bytes_of(dtype),
          .code_bits = spec.code_bits,
          .zeros = spec.part == Part::zeros};
}

void arrange(const Arrangement& op, int64_t begin, int64_t end) {
  switch (op.form) {
    case Form::turned:
      return turn_elements(op, begin, end);
    case Form::words_along:
      return turn<uint32_t>(op, op.cols * op.code_bits / 32, begin, end);
    case Form::signed_bytes: {
      const auto half = static_cast<uint8_t>(1U << (op.code_bits - 1));
      for (int64_t i = begin * op.cols; i < end * op.cols; ++i) op.to[i] = static_cast<std::byte>(std::to_integer<unsigned>(op.from[i]) + half);
      return;
    }
    case Form::awq_words:
      return op.zeros ? unpack_zeros(op, begin, end) : unpack_awq(op, begin, end);
    default:
      MOEGEN_CHECK(op.form != Form::rows && op.zeros);
      unpack_zeros(op, begin, end);
  }
}

}  // namespace moegen
