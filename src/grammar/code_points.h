#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace moegen::grammar {

inline constexpr uint32_t kLastCodePoint = 0x10FFFF;

/// A set of Unicode scalar values (surrogates are none).
class CodePoints {
 public:
  struct Range {
    uint32_t lo;
    uint32_t hi;
  };
  CodePoints() = default;
  CodePoints(uint32_t lo, uint32_t hi) { add(lo, hi); }
  static CodePoints all();

  void add(uint32_t lo, uint32_t hi);
  void add(const CodePoints& other);
  [[nodiscard]] CodePoints inverted() const;
  [[nodiscard]] CodePoints without(const CodePoints& other) const;
  [[nodiscard]] bool contains(uint32_t c) const;
  /// Ascending, neither overlapping nor touching.
  [[nodiscard]] const std::vector<Range>& ranges() const { return ranges_; }

 private:
  std::vector<Range> ranges_;
};

/// Ranges of bytes one behind the other: all their combinations are UTF-8.
struct ByteRanges {
  struct Range {
    uint8_t lo;
    uint8_t hi;
  };
  std::array<Range, 4> bytes{};
  int size = 0;
};

/// The UTF-8 forms of all members of `set`.
std::vector<ByteRanges> utf8_ranges(const CodePoints& set);

/// The first scalar value of valid UTF-8 text at `at`, which is moved behind it.
uint32_t next_code_point(const char*& at);

}  // namespace moegen::grammar
