#pragma once

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

namespace moegen::testing {

/// Thrown where a schema leads to itself on the same value.
struct CyclicSchema {};

/// Where "#/.." leads, of a URI; a '%' that begins no escape is itself.
inline const nlohmann::ordered_json& target_of(const nlohmann::ordered_json& root, const std::string& ref) {
  using Pointer = nlohmann::ordered_json::json_pointer;
  std::string plain = ref.substr(1);
  for (size_t i = 0; i + 2 < plain.size(); ++i) {
    const std::string digits = plain.substr(i + 1, 2);
    if (plain[i] == '%' && digits.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos)
      plain.replace(i, 3, 1, static_cast<char>(std::stoi(digits, nullptr, 16)));
  }
  return root.contains(Pointer(plain)) ? root.at(Pointer(plain)) : root.at(Pointer(ref.substr(1)));
}

/// An independent validator of the keywords that the tests use: what `value` violates, or "". `hops`: schemas seen on this value.
inline std::string violation(const nlohmann::ordered_json& root, const nlohmann::ordered_json& s, const nlohmann::ordered_json& value, int hops = 0) {
  using Json = nlohmann::ordered_json;
  if (hops > 12) throw CyclicSchema{};
  if (s.is_boolean()) return s.get<bool>() ? "" : "false";
  if (s.contains("$ref")) {
    return violation(root, target_of(root, s["$ref"]), value, hops + 1);
  }
  if (s.contains("const") && s["const"] != value) return "const";
  if (s.contains("enum") && std::find(s["enum"].begin(), s["enum"].end(), value) == s["enum"].end()) return "enum";
  for (const char* keyword : {"anyOf", "oneOf", "allOf"}) {
    if (!s.contains(keyword)) continue;
    if (value.is_null() && s.value("nullable", false)) return "";  // as OpenAPI's writers mean it
    size_t fits = 0;
    for (const Json& part : s[keyword]) fits += violation(root, part, value, hops + 1).empty() ? 1 : 0;
    const std::string name = keyword;
    if (fits == 0 || (name == "oneOf" && fits > 1) || (name == "allOf" && fits < s[keyword].size())) return name;
  }
  if (s.contains("type")) {
    const auto is = [&value](const std::string& type) {
      return type == "integer"  ? value.is_number() && std::trunc(value.get<double>()) == value.get<double>()
             : type == "number" ? value.is_number()
                                : type == value.type_name();
    };
    bool fits = value.is_null() && s.value("nullable", false);
    for (const Json& type : s["type"].is_array() ? s["type"] : Json::array({s["type"]})) fits = fits || is(type);
    if (!fits) return "type";
  }
  if (value.is_number()) {
    const double x = value.get<double>();
    if (s.contains("minimum") && x < s["minimum"].get<double>()) return "minimum";
    if (s.contains("maximum") && x > s["maximum"].get<double>()) return "maximum";
    if (s.contains("exclusiveMinimum") && x <= s["exclusiveMinimum"].get<double>()) return "exclusiveMinimum";
    const double quotient = x / s.value("multipleOf", 1e-300);  // of small numbers in the tests
    if (s.contains("multipleOf") && std::abs(quotient - std::nearbyint(quotient)) > 1e-6 * std::max(1.0, std::abs(quotient))) return "multipleOf";
    if (s.contains("exclusiveMaximum") && x >= s["exclusiveMaximum"].get<double>()) return "exclusiveMaximum";
  }
  if (value.is_string()) {
    size_t length = 0;
    for (const char c : value.get<std::string>()) length += (static_cast<unsigned char>(c) & 0xC0U) != 0x80 ? 1 : 0;
    if (length < s.value("minLength", size_t{0}) || length > s.value("maxLength", size_t{1} << 40U)) return "length";
  }
  if (value.is_array()) {
    if (value.size() < s.value("minItems", size_t{0}) || value.size() > s.value("maxItems", size_t{1} << 40U)) return "items";
    const Json prefix = s.value("prefixItems", Json::array());
    for (size_t i = 0; i < value.size(); ++i) {
      const Json rest = s.contains("items") ? s["items"] : Json(true);
      if (const auto v = violation(root, i < prefix.size() ? prefix[i] : rest, value[i]); !v.empty()) return "items/" + v;
    }
  }
  if (value.is_object()) {
    for (const Json& name : s.value("required", Json::array())) {
      if (!value.contains(name.get<std::string>())) return "required";
    }
    const Json properties = s.value("properties", Json::object());
    for (const auto& [name, inner] : value.items()) {
      const Json other = s.contains("additionalProperties") ? s["additionalProperties"] : Json(true);
      if (const auto v = violation(root, properties.contains(name) ? properties[name] : other, inner); !v.empty()) return name + "/" + v;
    }
  }
  return "";
}

inline nlohmann::ordered_json random_json(std::mt19937& rng, int depth) {
  using Json = nlohmann::ordered_json;
  static const std::vector<std::string> kTexts = {"", "a", "\"", "\\", "\n\t\x01\x7f", "é日本𝄞", "a b", "{}", "\xC2\x80", "/"};
  switch (rng() % (depth > 0 ? 8U : 6U)) {
    case 0:
      return nullptr;
    case 1:
      return rng() % 2 == 0;
    case 2:
      return static_cast<int64_t>(rng()) - (int64_t{1} << 31U);
    case 3:
      return static_cast<double>(rng()) / 1024.0 - 1e6;
    case 4:
      return 1.5e-30 * static_cast<double>(rng() % 100);
    case 5:
      return kTexts[rng() % kTexts.size()] + kTexts[rng() % kTexts.size()];
    case 6: {
      Json out = Json::array();
      for (auto n = rng() % 4; n > 0; --n) out.push_back(random_json(rng, depth - 1));
      return out;
    }
    default: {
      Json out = Json::object();
      for (auto n = rng() % 4; n > 0; --n) out[kTexts[rng() % kTexts.size()]] = random_json(rng, depth - 1);
      return out;
    }
  }
}

}  // namespace moegen::testing
