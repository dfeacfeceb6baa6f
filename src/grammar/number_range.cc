#include "grammar/number_range.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <tuple>

namespace moegen::grammar {
namespace {

// Numbers without sign, from lo to hi.
struct Magnitudes {
  Decimal lo;
  Decimal hi;
  bool above_lo = false;
  bool below_hi = false;
  bool integer = false;
  Multiples multiples;
};

// Places beyond the reach of both bounds, which all walks to one end share: digits to come before the point, digits behind it,
// whether the point comes last, and the remainder.
using FreeNodes = std::map<std::tuple<size_t, size_t, bool, uint64_t>, int32_t>;

int compare_magnitude(const Decimal& a, const Decimal& b) {
  if (a.whole.size() != b.whole.size()) return a.whole.size() < b.whole.size() ? -1 : 1;
  const int whole = a.whole.compare(b.whole);
  return whole != 0 ? whole : a.fraction.compare(b.fraction);  // without trailing zeros: as texts
}

// Digit by digit, knowing whether all digits so far are those of lo, of hi.
class DigitWalk {
 public:
  DigitWalk(NetworkBuilder& builder, const Magnitudes& m, size_t length, int32_t end, FreeNodes& free)
      : builder_(builder),
        multiples_(m.multiples),
        most_digits_(length + (m.integer ? 0 : m.multiples.places)),
        above_lo_(m.above_lo),
        below_hi_(m.below_hi),
        length_(length),
        end_(end),
        free_(free) {
    has_lo_ = m.lo.whole.size() == length;
    has_hi_ = m.hi.whole.size() == length;
    lo_ = m.lo.whole + m.lo.fraction;
    hi_ = m.hi.whole + m.hi.fraction;
    lo_.resize(length + kMaxDigits, '0');
    hi_.resize(length + kMaxDigits, '0');
  }

  void run(int32_t from) { builder_.skip(from, node(0, has_lo_, has_hi_, false, 0)); }

 private:
  // The place behind `digits` digits, which leave `rest`; `point`: and behind the point, with no digit of the fraction yet.
  int32_t node(size_t digits, bool at_lo, bool at_hi, bool point, uint64_t rest) {
    const bool free = digits > 0 && !at_lo && !at_hi;
    const size_t whole = std::min(digits, length_);
    int32_t& known = free ? free_.try_emplace({length_ - whole, digits - whole, point, rest}, kNone).first->second
                          : nodes_.try_emplace({digits, at_lo, at_hi, point, rest}, kNone).first->second;
    if (known != kNone) return known;
    const int32_t n = known = builder_.add_node();
    const bool whole_done = digits == length_ && !point;
    if (digits >= length_ && !point && may_end(digits, at_lo, at_hi, rest)) builder_.skip(n, end_);
    if (whole_done) {
      if (most_digits_ > length_) builder_.byte(n, '.', '.', node(digits, at_lo, at_hi, true, rest));
      return n;
    }
    if (digits == most_digits_) return n;
    const char lowest = at_lo ? lo_[digits] : digits == 0 && length_ > 1 ? '1' : '0';
    const char highest = at_hi ? hi_[digits] : '9';
    for (char d = lowest; d <= highest; ++d) {
      const auto byte = static_cast<uint8_t>(d);
      builder_.byte(n, byte, byte,
                    node(digits + 1, at_lo && d == lo_[digits], at_hi && d == hi_[digits], false,
                         (rest * 10 + static_cast<uint64_t>(d - '0')) % multiples_.divisor));
    }
    return n;
  }

  [[nodiscard]] bool may_end(size_t digits, bool at_lo, bool at_hi, uint64_t rest) const {
    for (size_t i = digits; rest != 0 && i < length_ + multiples_.places; ++i) rest = rest * 10 % multiples_.divisor;
    if (rest != 0) return false;
    const auto only_zeros = [&](const std::string& s) { return s.find_first_not_of('0', digits) == std::string::npos; };
    if (at_lo && (above_lo_ || !only_zeros(lo_))) return false;
    return !(at_hi && below_hi_ && only_zeros(hi_));
  }

  NetworkBuilder& builder_;
  Multiples multiples_;
  size_t most_digits_;
  bool above_lo_;
  bool below_hi_;
  size_t length_;
  int32_t end_;
  bool has_lo_ = false;
  bool has_hi_ = false;
  std::string lo_;
  std::string hi_;
  static constexpr int32_t kNone = -1;
  std::map<std::tuple<size_t, bool, bool, bool, uint64_t>, int32_t> nodes_;
  FreeNodes& free_;
};

void add_magnitudes(NetworkBuilder& builder, const Magnitudes& m, int32_t from, int32_t to, FreeNodes& free) {
  if (compare_magnitude(m.lo, m.hi) > 0) return;
  for (size_t length = m.lo.whole.size(); length <= m.hi.whole.size(); ++length) DigitWalk(builder, m, length, to, free).run(from);
}

const Decimal kZero{false, "0", ""};
const Decimal kMost{false, std::string(kMaxDigits, '9'), std::string(kMaxDigits, '9')};

Decimal magnitude(Decimal d) {
  d.negative = false;
  return d;
}

}  // namespace

std::optional<Decimal> Decimal::from(const nlohmann::ordered_json& number) {
  Decimal out;
  std::string text = number.dump();
  if (text.starts_with('-')) {
    out.negative = true;
    text = text.substr(1);
  }
  int exponent = 0;
  if (const size_t e = text.find('e'); e != std::string::npos) {
    const char* first = text.data() + e + (text[e + 1] == '+' ? 2 : 1);
    std::from_chars(first, text.data() + text.size(), exponent);
    text.resize(e);
  }
  const size_t point = std::min(text.find('.'), text.size());
  std::string digits = text.substr(0, point);
  if (point < text.size()) digits.append(text, point + 1);
  const int whole = static_cast<int>(point) + exponent;  // digits in front of the point
  if (whole > 400 || whole < -400) return std::nullopt;
  if (whole < 0) digits = std::string(static_cast<size_t>(-whole), '0').append(digits);
  const auto split = static_cast<size_t>(std::max(0, whole));
  if (digits.size() < split) digits.resize(split, '0');
  out.whole = digits.substr(0, split);
  out.fraction = digits.substr(split);
  out.whole.erase(0, std::min(out.whole.size(), out.whole.find_first_not_of('0')));
  out.fraction.resize(out.fraction.find_last_not_of('0') + 1);
  if (out.whole.empty()) out.whole.push_back('0');
  if (out.is_zero()) out.negative = false;
  if (out.whole.size() > kMaxDigits || out.fraction.size() > kMaxDigits) return std::nullopt;
  return out;
}

bool Decimal::operator<(const Decimal& other) const {
  if (negative != other.negative) return negative;
  const int order = compare_magnitude(*this, other);
  return negative ? order > 0 : order < 0;
}

int32_t add_number_rule(NetworkBuilder& builder, const NumberRange& r) {
  const int32_t rule = builder.add_rule();
  const int32_t end = builder.add_node();
  builder.finish(end);
  FreeNodes free;
  const bool min_negative = !r.min || r.min->negative;
  const bool max_negative = r.max && r.max->negative;
  if (!max_negative) {  // zero and above
    Magnitudes m{kZero, r.max.value_or(kMost), false, r.below_max, r.integer, r.multiples};
    if (!min_negative) {
      m.lo = *r.min;
      m.above_lo = r.above_min;
    }
    add_magnitudes(builder, m, builder.start(rule), end, free);
  }
  if (min_negative) {  // below zero
    const int32_t minus = builder.add_node();
    builder.byte(builder.start(rule), '-', '-', minus);
    Magnitudes m{kZero, r.min ? magnitude(*r.min) : kMost, true, r.above_min, r.integer, r.multiples};
    if (max_negative) {
      m.lo = magnitude(*r.max);
      m.above_lo = r.below_max;
    }
    add_magnitudes(builder, m, minus, end, free);
  }
  return rule;
}

}  // namespace moegen::grammar
