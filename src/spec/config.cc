#include "spec/config.h"

#include <cmath>
#include <utility>

#include "base/error.h"

namespace moegen {

Config::Config(nlohmann::json json, std::string where) : json_(std::move(json)), where_(std::move(where)) {
  if (!json_.is_object()) throw_error(ErrorCode::corrupt, "{}: expected a JSON object, found {}", where_, json_.type_name());
}

const nlohmann::json* Config::find(std::string_view field) const {
  const auto it = json_.find(field);
  return it == json_.end() || it->is_null() ? nullptr : &*it;
}

void Config::wrong(std::string_view field, const std::string& expected) const {
  const nlohmann::json* value = find(field);
  if (value == nullptr) throw_error(ErrorCode::corrupt, "{}: {} is missing: expected {}", where_, field, expected);
  throw_error(ErrorCode::corrupt, "{}: {}: expected {}, found {}", where_, field, expected, value->dump().substr(0, 80));
}

bool Config::has(std::string_view field) const { return find(field) != nullptr; }
bool Config::is_text(std::string_view field) const { return has(field) && find(field)->is_string(); }
bool Config::is_flag(std::string_view field) const { return has(field) && find(field)->is_boolean(); }

namespace {

// The value where it is an integer in the range; JSON writers also spell integers as 1e6 or 4.0.
std::optional<int64_t> integer_in(const nlohmann::json& value, int64_t low, int64_t high) {
  if (!value.is_number()) return std::nullopt;
  const double d = value.get<double>();
  if (!(d >= static_cast<double>(low) && d <= static_cast<double>(high)) || d != std::floor(d)) return std::nullopt;
  const auto i = static_cast<int64_t>(d);
  return i >= low && i <= high ? std::optional(i) : std::nullopt;
}

}  // namespace

int64_t Config::integer(std::string_view field, int64_t low, int64_t high) const {
  const nlohmann::json* value = find(field);
  const auto i = value != nullptr ? integer_in(*value, low, high) : std::nullopt;
  if (!i) wrong(field, fmt::format("an integer from {} to {}", low, high));
  return *i;
}

int64_t Config::integer(std::string_view field, int64_t low, int64_t high, int64_t otherwise) const {
  return has(field) ? integer(field, low, high) : otherwise;
}

double Config::number(std::string_view field, double low, double high) const {
  const nlohmann::json* value = find(field);
  if (value == nullptr || !value->is_number() || !(value->get<double>() >= low && value->get<double>() <= high)) {
    wrong(field, fmt::format("a number from {} to {}", low, high));
  }
  return value->get<double>();
}

double Config::number(std::string_view field, double low, double high, double otherwise) const {
  return has(field) ? number(field, low, high) : otherwise;
}

bool Config::flag(std::string_view field, bool otherwise) const {
  const nlohmann::json* value = find(field);
  if (value == nullptr) return otherwise && !mentions(field);
  if (!value->is_boolean()) wrong(field, "true or false");
  return value->get<bool>();
}

bool Config::truth(std::string_view field, bool otherwise) const {
  const nlohmann::json* value = find(field);
  return value != nullptr && value->is_number() ? value->get<double>() != 0 : flag(field, otherwise);
}

std::string Config::text(std::string_view field, std::string_view otherwise) const {
  const nlohmann::json* value = find(field);
  if (value != nullptr && !value->is_string()) wrong(field, "a string");
  return value != nullptr ? value->get<std::string>() : std::string(otherwise);
}

std::vector<int64_t> Config::integers(std::string_view field, int64_t low, int64_t high) const {
  const nlohmann::json* value = find(field);
  if (value == nullptr) return {};
  std::vector<int64_t> out;
  for (const nlohmann::json& item : value->is_array() ? *value : nlohmann::json::array({*value})) {
    const auto i = integer_in(item, low, high);
    if (!i) wrong(field, fmt::format("integers from {} to {}", low, high));
    out.push_back(*i);
  }
  return out;
}

std::vector<double> Config::numbers(std::string_view field, double low, double high) const {
  const nlohmann::json* value = find(field);
  if (value == nullptr) return {};
  const std::string expected = fmt::format("a list of numbers from {} to {}", low, high);
  if (!value->is_array()) wrong(field, expected);
  std::vector<double> out;
  for (const nlohmann::json& item : *value) {
    if (!item.is_number() || !(item.get<double>() >= low && item.get<double>() <= high)) wrong(field, expected);
    out.push_back(item.get<double>());
  }
  return out;
}

std::vector<std::string> Config::texts(std::string_view field) const {
  const nlohmann::json* value = find(field);
  if (value == nullptr) return {};
  if (!value->is_array()) wrong(field, "a list of strings");
  std::vector<std::string> out;
  for (const nlohmann::json& item : *value) {
    if (!item.is_string()) wrong(field, "a list of strings");
    out.push_back(item.get<std::string>());
  }
  return out;
}

std::optional<Config> Config::object(std::string_view field) const {
  const nlohmann::json* value = find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) wrong(field, "an object");
  return Config(*value, fmt::format("{}: {}", where_, field));
}

std::vector<std::string> Config::fields() const {
  std::vector<std::string> out;
  for (const auto& [name, value] : json_.items()) {
    if (!value.is_null()) out.push_back(name);
  }
  return out;
}

Config Config::with(std::string_view field) const {
  const std::optional<Config> inner = object(field);
  if (!inner) return *this;
  Config out = *this;
  for (const auto& [name, value] : inner->json_.items()) out.json_[name] = value;
  return out;
}

Config Config::or_else(std::string_view json) const {
  Config out = *this;
  const auto fields = nlohmann::json::parse(json);
  for (const auto& [name, value] : fields.items()) {
    if (value.is_object() ? !has(name) : !mentions(name)) out.json_[name] = value;
  }
  return out;
}

std::string_view Config::first_of(std::initializer_list<std::string_view> fields) const {
  for (const std::string_view field : fields) {
    if (has(field)) return field;
  }
  return *fields.begin();
}

}  // namespace moegen
