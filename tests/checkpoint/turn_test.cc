#include "checkpoint/turn.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace moegen {
namespace {

TEST(Turn, ColumnsBecomeRowsWhereverTheyLie) {
  for (const size_t size : {1U, 2U, 4U}) {
    for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 1}, {1, 70}, {70, 1}, {33, 65}, {130, 64}, {16, 257}}) {
      std::vector<std::byte> from(static_cast<size_t>(rows * cols) * size + 1), to(from.size());
      for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::byte>(i * 31 >> 3);
      const Turn op{from.data() + 1, to.data() + 1, rows, cols, size};
      turn(op, 0, rows / 3);
      turn(op, rows / 3, rows);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < cols; ++c)
          ASSERT_EQ(std::memcmp(op.to + static_cast<size_t>(r * cols + c) * size, op.from + static_cast<size_t>(c * rows + r) * size, size), 0);
      }
    }
  }
}

}  // namespace
}  // namespace moegen
