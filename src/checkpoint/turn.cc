#include "checkpoint/turn.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace moegen {
namespace {

// In squares of which both sides stay in the L1 cache.
template <typename T>
void turn_elements(const Turn& op, int64_t begin, int64_t end) {
  constexpr int64_t kSide = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t row = begin; row < end; row += kSide) {
    for (int64_t col = 0; col < op.cols; col += kSide) {
      for (int64_t r = row; r < std::min(end, row + kSide); ++r) {
        for (int64_t c = col; c < std::min(op.cols, col + kSide); ++c) {
          std::memcpy(op.to + static_cast<size_t>(r * op.cols + c) * sizeof(T), op.from + static_cast<size_t>(c * op.rows + r) * sizeof(T),
                      sizeof(T));
        }
      }
    }
  }
}

}  // namespace

void turn(const Turn& op, int64_t begin, int64_t end) {
  if (op.element_bytes == 1) return turn_elements<uint8_t>(op, begin, end);
  if (op.element_bytes == 2) return turn_elements<uint16_t>(op, begin, end);
  MOEGEN_CHECK(op.element_bytes == 4);
  turn_elements<uint32_t>(op, begin, end);
}

}  // namespace moegen
