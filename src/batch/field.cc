#include "batch/field.h"

#include <cmath>

#include "batch/refusal.h"

namespace moegen {

using Json = nlohmann::json;

void Field::require(bool right_type, std::string_view expected) const {
  if (right_type) return;
  std::string_view got = value.type_name();
  if (value.is_number_float()) got = "number with a fraction or exponent";
  refuse("invalid_type", name, "'{}' has to be {}, not {} {}", name, expected, got.front() == 'a' || got.front() == 'o' ? "an" : "a", got);
}

bool Field::boolean() const {
  require(value.is_boolean(), "true or false");
  return value.get<bool>();
}

int64_t Field::integer(int64_t min, int64_t max) const {
  // The parser makes a double of an integer that needs more than 64 bits.
  const double x = value.is_number() ? value.get<double>() : 0;
  const bool huge = value.is_number_float() && std::abs(x) >= 0x1p63 && std::abs(x) < std::numeric_limits<double>::max();
  require(value.is_number_integer() || huge, "an integer");
  const bool above = huge ? x > 0 : value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()};
  const bool below = huge && x < 0;
  if (above || (!below && value.get<int64_t>() > max)) refuse("integer_above_max_value", name, "'{}' has to be at most {}", name, max);
  if (below || value.get<int64_t>() < min) refuse("integer_below_min_value", name, "'{}' has to be at least {}", name, min);
  return value.get<int64_t>();
}

double Field::decimal(const DecimalRange& range) const {
  require(value.is_number(), "a number");
  const double x = value.get<double>();
  if (x < range.min || (range.above_min && x == range.min)) {
    refuse("decimal_below_min_value", name, "'{}' has to be {} {}", name, range.above_min ? "above" : "at least", range.min);
  }
  if (x > range.max) refuse("decimal_above_max_value", name, "'{}' has to be at most {}", name, range.max);
  return x;
}

uint64_t Field::seed() const {
  if (value.is_number_unsigned()) return value.get<uint64_t>();
  return static_cast<uint64_t>(integer(std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()));
}

const std::string& Field::text() const {
  require(value.is_string(), "a string");
  return value.get_ref<const std::string&>();
}

std::vector<std::string> Field::texts(size_t max_count, bool or_one) const {
  const bool one = or_one && value.is_string();
  require(one || value.is_array(), or_one ? "a string or an array of strings" : "an array of strings");
  if (!one && value.size() > max_count)
    refuse("array_above_max_length", name, "'{}' may have at most {} entries, not {}", name, max_count, value.size());
  std::vector<std::string> texts;
  for (const Json& entry : value) {  // a string iterates over itself
    if (!entry.is_string()) refuse("invalid_type", name, "'{}[{}]' has to be a string", name, texts.size());
    texts.push_back(entry.get<std::string>());
    if (texts.back().empty()) refuse("invalid_value", name, "'{}' has an empty string", name);
  }
  return texts;
}

std::vector<TokenId> Field::ids() const {
  require(value.is_array(), "an array of token ids");
  std::vector<TokenId> ids;
  ids.reserve(value.size());
  for (const Json& entry : value) ids.push_back(token_id(*this, entry));
  return ids;
}

const Json& Field::list() const {
  require(value.is_array(), "an array");
  if (value.empty()) refuse("empty_array", name, "'{}' is empty", name);
  return value;
}

const Json& Field::object() const {
  require(value.is_object(), "an object");
  return value;
}

TokenId token_id(const Field& field, const Json& value) {
  const double x = value.is_number() ? value.get<double>() : -1;  // exact where it matters
  const bool whole = value.is_number_integer() || (value.is_number_float() && std::abs(x) >= 0x1p63);
  if (!whole)
    refuse("invalid_type", field.name, "'{}': a token id is an integer, not {}", field.name, value.is_number() ? "a fraction" : value.type_name());
  if (x < 0 || x > std::numeric_limits<TokenId>::max()) refuse("invalid_value", field.name, "'{}': there is no token id {:.0f}", field.name, x);
  return value.get<TokenId>();
}

}  // namespace moegen
