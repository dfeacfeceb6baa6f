// Objects and arrays.
#include <algorithm>

#include "grammar/schema_compiler.h"

namespace moegen::grammar {
namespace {

constexpr size_t kMaxProperties = 4096;

std::vector<std::string> required_keys(const Place& schema) {
  std::vector<std::string> out;
  const Json* required = schema.find("required");
  if (required == nullptr) return out;
  if (!required->is_array()) schema.invalid("required", "is not a list of names");
  for (const Json& key : *required) {
    if (!key.is_string()) schema.invalid("required", "is not a list of names");
    out.push_back(key.get<std::string>());
  }
  return out;
}

}  // namespace

void SchemaCompiler::write_object(const Place& schema, int32_t from, int32_t to) {
  static const Json nothing = Json::object();
  static const Json anything = true;
  const Json* properties = schema.find("properties");
  if (properties == nullptr) properties = &nothing;
  if (!properties->is_object()) schema.invalid("properties", "is not an object");
  if (properties->size() > kMaxProperties) schema.unsupported("properties", fmt::format("has more than {} members", kMaxProperties));
  const Json* additional = schema.find("additionalProperties");
  const bool has_additional = additional != nullptr ? *additional != false : properties->empty() && !schema.has("required");
  if (additional == nullptr) additional = &anything;
  const Place other{*additional, schema.path + "/additionalProperties"};
  const std::vector<std::string> required = required_keys(schema);

  struct Property {
    std::string name;
    Place schema;
    bool required;
  };
  std::vector<Property> all;
  for (const auto& [name, value] : properties->items()) {
    const bool needed = std::find(required.begin(), required.end(), name) != required.end();
    all.push_back({name, {value, fmt::format("{}/properties/{}", schema.path, name)}, needed});
  }
  for (const std::string& name : required) {
    if (std::any_of(all.begin(), all.end(), [&](const Property& p) { return p.name == name; })) continue;
    if (*additional == false) schema.invalid("required", fmt::format("names '{}', which is no property", name));
    all.push_back({name, other, true});
  }

  // `first`: no member yet; `rest`: at least one, so the next needs a comma.
  int32_t first = builder_.text(from, "{");
  int32_t rest = -1;
  std::vector<std::string> names;
  for (const Property& p : all) {
    names.push_back(p.name);
    const int32_t start = builder_.add_node();
    const int32_t behind = builder_.add_node();
    if (first >= 0) builder_.skip(first, start);
    if (rest >= 0) builder_.skip(separator(rest, ','), start);
    builder_.call(key(start, p.name), rule_of(p.schema), behind);
    if (p.required) {
      first = -1;
    } else if (rest >= 0) {
      builder_.skip(rest, behind);
    }
    rest = behind;
  }
  if (has_additional) {
    const int32_t start = builder_.add_node();
    const int32_t named = builder_.add_node();
    const int32_t behind = builder_.add_node();
    if (first >= 0) builder_.skip(first, start);
    if (rest >= 0) builder_.skip(rest, behind);
    builder_.call(start, names.empty() ? free_string() : other_keys(names), named);
    builder_.call(separator(named, ':'), rule_of(other), behind);
    builder_.skip(separator(behind, ','), start);
    rest = behind;
  }
  if (first >= 0) builder_.byte(first, '}', '}', to);
  if (rest >= 0) builder_.byte(rest, '}', '}', to);
}

void SchemaCompiler::write_array(const Place& schema, int32_t from, int32_t to) {
  constexpr int kMaxElements = 8192;
  static const Json anything = true;
  if (const Json* unique = schema.find("uniqueItems"); unique != nullptr && *unique != false) schema.unsupported("uniqueItems", "is not supported");
  const Json* prefix = schema.find("prefixItems");
  if (prefix != nullptr && !prefix->is_array()) schema.invalid("prefixItems", "is not a list of schemas");
  const Json* items = schema.find("items");
  if (items != nullptr && items->is_array()) schema.unsupported("items", "as a list is not supported: use 'prefixItems'");
  const int num_prefix = prefix != nullptr ? static_cast<int>(prefix->size()) : 0;
  const bool closed = items != nullptr && *items == false;
  const int min = schema.count("minItems", 0);
  int max = schema.count("maxItems", Pattern::kNoLimit);
  if (max != Pattern::kNoLimit && max < min) schema.invalid("maxItems", "is below 'minItems'");
  for (const char* bound : {"minItems", "maxItems"}) {
    if (schema.count(bound, 0) > kMaxElements) schema.unsupported(bound, fmt::format("is above {}", kMaxElements));
  }
  if (closed) max = max == Pattern::kNoLimit ? num_prefix : std::min(max, num_prefix);
  const Place rest{items != nullptr ? *items : anything, schema.path + "/items"};

  // A place behind each element as far as bounds and prefix tell them apart, then a loop.
  int32_t at = builder_.text(from, "[");
  const bool endless = max == Pattern::kNoLimit;
  const int copies = endless ? std::max({min, num_prefix, 1}) : max;
  for (int i = 0; i < copies; ++i) {
    if (i >= min) builder_.byte(at, ']', ']', to);
    const int32_t element = i == 0 ? at : separator(at, ',');
    const int32_t behind = builder_.add_node();
    builder_.call(element, rule_of(i < num_prefix ? schema.at("prefixItems", static_cast<size_t>(i)) : rest), behind);
    at = behind;
  }
  if (copies >= min) builder_.byte(at, ']', ']', to);
  if (endless) builder_.call(separator(at, ','), rule_of(rest), at);
}

}  // namespace moegen::grammar
