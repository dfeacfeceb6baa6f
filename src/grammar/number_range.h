#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "grammar/network.h"

namespace moegen::grammar {

/// Most digits on a side of the point: what every reader takes as a number of 64 bits.
inline constexpr size_t kMaxDigits = 18;

/// A decimal number without exponent.
struct Decimal {
  bool negative = false;
  std::string whole;     ///< digits without leading zeros; "0" for none
  std::string fraction;  ///< digits without trailing zeros

  /// Empty if it needs more than 18 digits on a side.
  static std::optional<Decimal> from(const nlohmann::ordered_json& number);
  [[nodiscard]] bool is_zero() const { return whole == "0" && fraction.empty(); }
  [[nodiscard]] bool operator<(const Decimal& other) const;
};

/// The multiples of divisor / 10^places. At first: all numbers, with as many places as may be written.
struct Multiples {
  uint64_t divisor = 1;
  size_t places = kMaxDigits;
};

struct NumberRange {
  std::optional<Decimal> min;
  std::optional<Decimal> max;
  bool above_min = false;  ///< min itself is out
  bool below_max = false;
  bool integer = false;
  Multiples multiples;
};

/// A rule for the numbers within the range, without exponents; zero has no sign.
int32_t add_number_rule(NetworkBuilder& builder, const NumberRange& range);

}  // namespace moegen::grammar
