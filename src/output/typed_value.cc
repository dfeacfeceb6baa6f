#include "output/typed_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>

#include "output/cursor.h"
#include "output/json_span.h"

namespace moegen {
namespace {

using Json = nlohmann::json;

// In the order in which they are tried, vLLM's.
enum class Kind { null, integer, number, boolean, container, string, unknown };

Kind kind_of(std::string_view type) {
  const auto begins = [&](std::initializer_list<std::string_view> words) {
    return std::any_of(words.begin(), words.end(), [&](std::string_view w) { return type.starts_with(w); });
  };
  if (begins({"str", "text", "varchar", "char", "enum"})) return Kind::string;
  if (begins({"int", "uint", "long", "short", "unsigned"})) return Kind::integer;
  if (begins({"num", "float", "double"})) return Kind::number;
  if (begins({"bool"})) return Kind::boolean;
  if (begins({"object", "arr", "dict", "list", "sequence"})) return Kind::container;
  return type == "null" ? Kind::null : Kind::unknown;
}

Kind kind_of_value(const Json& value) {
  if (value.is_null()) return Kind::null;
  if (value.is_boolean()) return Kind::boolean;
  if (value.is_number_integer()) return Kind::integer;
  if (value.is_number()) return Kind::number;
  return value.is_string() ? Kind::string : Kind::container;
}

// The types that a schema allows: by name, by the values of its enumeration, by its alternatives; a string if it does not say.
// How deep it nests is limited where requests are read.
std::set<Kind> kinds_of(const Json& schema) {
  std::set<Kind> out;
  const auto member = [&](const char* name, bool array) -> const Json* {
    if (!schema.is_object()) return nullptr;
    const auto found = schema.find(name);
    return found != schema.end() && (array ? found->is_array() : found->is_string()) ? &*found : nullptr;
  };
  if (const Json* type = member("type", false)) out.insert(kind_of(type->get_ref<const std::string&>()));
  if (const Json* types = member("type", true)) {
    for (const Json& t : *types) {
      if (t.is_string()) out.insert(kind_of(t.get_ref<const std::string&>()));
    }
  }
  if (const Json* values = member("enum", true)) {
    for (const Json& value : *values) out.insert(kind_of_value(value));
  }
  for (const char* name : {"anyOf", "oneOf", "allOf"}) {
    if (const Json* options = member(name, true)) {
      for (const Json& option : *options) out.merge(kinds_of(option));
    }
  }
  if (out.empty()) out.insert(Kind::string);
  return out;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

// As Python's int(): a sign, and zeros in front.
std::optional<std::string> integer(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.empty() || text.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
  text.remove_prefix(std::min(text.find_first_not_of('0'), text.size() - 1));
  std::string out(text);
  if (negative && out != "0") out.insert(out.begin(), '-');
  return out;
}

// A whole number is written as one, as vLLM does; other numbers keep their digits.
std::optional<std::string> number(std::string_view text) {
  if (auto whole = integer(text)) return whole;
  const std::string_view digits = text.substr(text.starts_with('+') ? 1 : 0);
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size() || !std::isfinite(value)) return std::nullopt;
  if (value == std::trunc(value) && std::abs(value) < 1e15) return std::to_string(static_cast<int64_t>(value));
  return is_json(digits) ? std::string(digits) : Json(value).dump();
}

std::optional<std::string> json(std::string_view text) { return is_json(text) ? std::optional(std::string(text)) : std::nullopt; }

std::optional<std::string> boolean(std::string_view text) {
  constexpr size_t kLongest = 5;
  const std::string word = lower(text.substr(0, kLongest + 1));
  if (word == "true" || word == "1") return "true";
  return word == "false" || word == "0" ? std::optional<std::string>("false") : std::nullopt;
}

std::optional<std::string> as_kind(Kind kind, std::string_view text) {
  const std::string_view bare = trimmed(text);
  switch (kind) {
    case Kind::null:
      return text.size() == 4 && lower(text) == "null" ? std::optional<std::string>("null") : std::nullopt;
    case Kind::integer:
      return integer(bare);
    case Kind::number:
      return number(bare);
    case Kind::boolean:
      return boolean(bare);
    case Kind::container:
      return json(bare);
    case Kind::string:
      return json_quoted(text);
    default:
      return std::nullopt;
  }
}

}  // namespace

ToolSchemas::ToolSchemas(const Json& tools) {
  if (!tools.is_array()) return;
  for (const Json& tool : tools) {
    const Json& function = tool.is_object() && tool.contains("function") ? tool["function"] : tool;
    if (!function.is_object() || !function.contains("name") || !function["name"].is_string()) continue;
    const Json* properties = nullptr;
    if (const auto p = function.find("parameters"); p != function.end() && p->is_object()) {
      if (const auto found = p->find("properties"); found != p->end() && found->is_object()) properties = &*found;
    }
    properties_.emplace(function["name"].get<std::string>(), properties);
  }
}

const Json* ToolSchemas::parameter(std::string_view tool, const std::string& name) const {
  const auto found = properties_.find(tool);
  if (found == properties_.end() || found->second == nullptr) return nullptr;
  const auto schema = found->second->find(name);
  return schema == found->second->end() ? nullptr : &*schema;
}

std::string typed_value(const Json* schema, std::string_view text) {
  if (schema == nullptr) return json_quoted(text);
  for (const Kind kind : kinds_of(*schema)) {
    if (auto value = as_kind(kind, text)) return *std::move(value);
  }
  return json(trimmed(text)).value_or(json_quoted(text));
}

bool may_be_string(const Json* schema) { return schema == nullptr || kinds_of(*schema).contains(Kind::string); }

void ObjectText::set(std::string_view key, std::string json) {
  const auto [at, added] = index_.emplace(key, members_.size());
  if (added) {
    members_.emplace_back(key, std::move(json));
  } else {
    members_[at->second].second = std::move(json);
  }
}

std::string ObjectText::text() const {
  std::string out = "{";
  for (const auto& [key, json] : members_) {
    if (out.size() > 1) out += ", ";
    out += json_quoted(key);
    out += ": ";
    out += json;
  }
  out += '}';
  return out;
}

}  // namespace moegen
