#include "output/typed_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "output/cursor.h"
#include "output/json_span.h"

namespace moegen {
namespace {

using Json = nlohmann::json;

enum class Kind { string, integer, number, boolean, null, container, json };

Kind kind_of(std::string_view type) {
  const auto begins = [&](std::initializer_list<std::string_view> words) {
    return std::any_of(words.begin(), words.end(), [&](std::string_view w) { return type.starts_with(w); });
  };
  if (begins({"str", "text", "varchar", "char", "enum"})) return Kind::string;
  if (begins({"int", "uint", "long", "short", "unsigned"})) return Kind::integer;
  if (begins({"num", "float", "double"})) return Kind::number;
  if (begins({"bool", "binary"})) return Kind::boolean;
  if (begins({"object", "arr", "dict", "list"})) return Kind::container;
  return type == "null" ? Kind::null : Kind::json;
}

void add_types(const Json& schema, std::vector<Kind>& out) {
  const auto type = schema.is_object() ? schema.find("type") : schema.end();
  if (!schema.is_object() || type == schema.end()) return;
  if (type->is_string()) out.push_back(kind_of(type->get_ref<const std::string&>()));
  if (!type->is_array()) return;
  for (const Json& t : *type) {
    if (t.is_string()) out.push_back(kind_of(t.get_ref<const std::string&>()));
  }
}

// The types that a schema allows, in its order; those of its alternatives where it has none of its own.
std::vector<Kind> kinds_of(const Json& schema) {
  std::vector<Kind> out;
  add_types(schema, out);
  for (const char* name : {"anyOf", "oneOf"}) {
    if (!out.empty() || !schema.is_object() || !schema.contains(name) || !schema[name].is_array()) continue;
    for (const Json& option : schema[name]) add_types(option, out);
  }
  return out;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

bool is_word(std::string_view text, std::initializer_list<std::string_view> words) {
  return text.size() <= 5 && std::find(words.begin(), words.end(), lower(text)) != words.end();
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

std::optional<std::string> json_or_python(std::string_view text) {
  if (is_json(text)) return std::string(text);
  if (text == "True" || text == "False") return lower(text);
  if (text == "None") return "null";
  return std::nullopt;
}

// `text` without the space around it.
std::optional<std::string> as_kind(Kind kind, std::string_view text) {
  if (kind != Kind::string && is_word(text, {"null", "none"})) return "null";
  switch (kind) {
    case Kind::integer:
      return integer(text);
    case Kind::number:
      return number(text);
    case Kind::boolean:
      return is_word(text, {"true", "false"}) ? std::optional(lower(text)) : std::nullopt;
    case Kind::container:
    case Kind::json:
      return json_or_python(text);
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

std::string typed_value(const Json* schema, std::string_view text, const ValueRules& rules) {
  std::vector<Kind> kinds = schema != nullptr ? kinds_of(*schema) : std::vector<Kind>{};
  if (kinds.empty()) kinds.push_back(rules.untyped_is_json ? Kind::json : Kind::string);
  // Null before the string that may be null, else a string is what everything can be.
  std::stable_partition(kinds.begin(), kinds.end(), [](Kind k) { return k == Kind::null; });
  const std::string_view bare = trimmed(text);
  for (const Kind kind : kinds) {
    if (kind == Kind::string) break;
    if (auto json = as_kind(kind, bare)) return *std::move(json);
  }
  if (rules.trim_strings) text = bare;
  if (rules.trim_newlines && text.starts_with('\n')) text.remove_prefix(1);
  if (rules.trim_newlines && text.ends_with('\n')) text.remove_suffix(1);
  return json_quoted(text);
}

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
