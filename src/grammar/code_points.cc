#include "grammar/code_points.h"

#include <algorithm>

namespace moegen::grammar {
namespace {

constexpr uint32_t kFirstSurrogate = 0xD800;
constexpr uint32_t kLastSurrogate = 0xDFFF;

int encode(uint32_t c, std::array<uint8_t, 4>& out) {
  const auto tail = [c](int shift) { return static_cast<uint8_t>(0x80U | (c >> shift & 0x3FU)); };
  if (c < 0x80) {
    out[0] = static_cast<uint8_t>(c);
    return 1;
  }
  if (c < 0x800) {
    out = {static_cast<uint8_t>(0xC0U | c >> 6U), tail(0), 0, 0};
    return 2;
  }
  if (c < 0x10000) {
    out = {static_cast<uint8_t>(0xE0U | c >> 12U), tail(6), tail(0), 0};
    return 3;
  }
  out = {static_cast<uint8_t>(0xF0U | c >> 18U), tail(12), tail(6), tail(0)};
  return 4;
}

// Splits where the byte forms of lo and hi do not span a full product of ranges.
void split(uint32_t lo, uint32_t hi, std::vector<ByteRanges>& out) {
  for (const uint32_t last : {0x7FU, 0x7FFU, 0xFFFFU}) {
    if (lo <= last && hi > last) {
      split(lo, last, out);
      split(last + 1, hi, out);
      return;
    }
  }
  if (hi >= 0x80) {
    for (uint32_t i = 1; i < 4; ++i) {
      const uint32_t tail = (1U << (6 * i)) - 1;
      if ((lo & ~tail) == (hi & ~tail)) continue;
      if ((lo & tail) != 0) {
        split(lo, lo | tail, out);
        split((lo | tail) + 1, hi, out);
        return;
      }
      if ((hi & tail) != tail) {
        split(lo, (hi & ~tail) - 1, out);
        split(hi & ~tail, hi, out);
        return;
      }
    }
  }
  std::array<uint8_t, 4> a{};
  std::array<uint8_t, 4> b{};
  ByteRanges r;
  r.size = encode(lo, a);
  encode(hi, b);
  for (size_t i = 0; i < static_cast<size_t>(r.size); ++i) r.bytes[i] = {a[i], b[i]};
  out.push_back(r);
}

}  // namespace

CodePoints CodePoints::all() { return CodePoints().inverted(); }

void CodePoints::add(uint32_t lo, uint32_t hi) {
  hi = std::min(hi, kLastCodePoint);
  if (lo > hi) return;
  if (lo <= kLastSurrogate && hi >= kFirstSurrogate) {
    if (lo < kFirstSurrogate) add(lo, kFirstSurrogate - 1);
    if (hi > kLastSurrogate) add(kLastSurrogate + 1, hi);
    return;
  }
  // The first range that touches [lo, hi] or lies behind it.
  auto first = std::lower_bound(ranges_.begin(), ranges_.end(), lo, [](const Range& r, uint32_t c) { return r.hi + 1 < c; });
  auto last = first;
  while (last != ranges_.end() && last->lo <= hi + 1) {
    lo = std::min(lo, last->lo);
    hi = std::max(hi, last->hi);
    ++last;
  }
  ranges_.insert(ranges_.erase(first, last), {lo, hi});
}

void CodePoints::add(const CodePoints& other) {
  for (const Range& r : other.ranges_) add(r.lo, r.hi);
}

CodePoints CodePoints::inverted() const {
  CodePoints out;
  uint32_t next = 0;
  for (const Range& r : ranges_) {
    if (r.lo > next) out.add(next, r.lo - 1);
    next = r.hi + 1;
  }
  if (next <= kLastCodePoint) out.add(next, kLastCodePoint);
  return out;
}

CodePoints CodePoints::without(const CodePoints& other) const {
  CodePoints rest = inverted();
  rest.add(other);
  return rest.inverted();
}

bool CodePoints::contains(uint32_t c) const {
  return std::any_of(ranges_.begin(), ranges_.end(), [c](const Range& r) { return r.lo <= c && c <= r.hi; });
}

std::vector<ByteRanges> utf8_ranges(const CodePoints& set) {
  std::vector<ByteRanges> out;
  for (const CodePoints::Range& r : set.ranges()) split(r.lo, r.hi, out);
  return out;
}

uint32_t next_code_point(const char*& at) {
  const auto byte = [&] { return static_cast<uint8_t>(*at++); };
  const uint32_t first = byte();
  if (first < 0x80) return first;
  const int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
  uint32_t c = first & (0x3FU >> static_cast<unsigned>(more));
  for (int i = 0; i < more; ++i) c = c << 6U | (byte() & 0x3FU);
  return c;
}

}  // namespace moegen::grammar
