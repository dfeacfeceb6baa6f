#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "moegen/request.h"

namespace moegen {

/// What a decimal field may be.
struct DecimalRange {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool above_min = false;  ///< min itself is not allowed
};

/// A member of a request, read as what it has to be. Every function throws a Refusal that names the field.
struct Field {
  std::string_view name;
  const nlohmann::json& value;

  [[nodiscard]] bool boolean() const;
  [[nodiscard]] int64_t integer(int64_t min, int64_t max) const;
  [[nodiscard]] double decimal(const DecimalRange& range) const;
  [[nodiscard]] uint64_t seed() const;  ///< any integer of 64 bits, with or without a sign
  [[nodiscard]] const std::string& text() const;
  /// A list of texts that are not empty; a single text is taken as a list if `or_one`.
  [[nodiscard]] std::vector<std::string> texts(size_t max_count, bool or_one) const;
  [[nodiscard]] std::vector<TokenId> ids() const;
  /// Refuses what is not an array, or an empty one; what is not an object.
  const nlohmann::json& list() const;
  const nlohmann::json& object() const;
  /// Refuses what has another type. `expected` in words.
  void require(bool right_type, std::string_view expected) const;
};

/// The id that `value` is. Throws a Refusal of `field`.
TokenId token_id(const Field& field, const nlohmann::json& value);

}  // namespace moegen
