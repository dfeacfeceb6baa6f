#include "tokenizer/json_fields.h"

#include <utility>

#include "base/error.h"

namespace moegen::text {

Fields::Fields(const nlohmann::json& object, std::string where) : object_(object), where_(std::move(where)) {
  if (!object.is_object()) corrupt("is no object");
}

void Fields::refuse(const std::string& what) const { throw_error(ErrorCode::unsupported, "{}: {} is not supported", where_, what); }
void Fields::corrupt(const std::string& what) const { throw_error(ErrorCode::corrupt, "{}: {}", where_, what); }

bool Fields::has(const char* key) const {
  const auto it = object_.find(key);
  return it != object_.end() && !it->is_null();
}

const nlohmann::json& Fields::at(const char* key) const {
  if (!has(key)) corrupt(std::string("\"") + key + "\" is missing");
  return *object_.find(key);
}

const nlohmann::json& Fields::array(const char* key) const {
  const nlohmann::json& v = at(key);
  if (!v.is_array()) corrupt(std::string("\"") + key + "\" is no array");
  return v;
}

const std::string& Fields::text(const char* key) const {
  const nlohmann::json& v = at(key);
  if (!v.is_string()) corrupt(std::string("\"") + key + "\" is no text");
  return v.get_ref<const std::string&>();
}

std::string Fields::text(const char* key, const std::string& otherwise) const { return has(key) ? text(key) : otherwise; }

bool Fields::flag(const char* key, bool otherwise) const {
  if (!has(key)) return otherwise;
  const nlohmann::json& v = at(key);
  if (!v.is_boolean()) corrupt(std::string("\"") + key + "\" is neither true nor false");
  return v.get<bool>();
}

int64_t Fields::number(const char* key, int64_t max) const {
  const nlohmann::json& v = at(key);
  const bool fits = v.is_number_unsigned() ? v.get<uint64_t>() <= static_cast<uint64_t>(max)
                                           : v.is_number_integer() && v.get<int64_t>() >= 0 && v.get<int64_t>() <= max;
  if (!fits) corrupt(std::string("\"") + key + "\" is no integer from 0 to " + std::to_string(max));
  return v.get<int64_t>();
}

}  // namespace moegen::text
