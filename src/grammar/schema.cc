#include "grammar/schema.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "grammar/schema_compiler.h"

namespace moegen::grammar {
namespace {

constexpr std::string_view kAnnotations[] = {"title",       "description", "default",   "examples",   "example",
                                             "$schema",     "$id",         "$comment",  "$anchor",    "$defs",
                                             "definitions", "readOnly",    "writeOnly", "deprecated", "discriminator"};

struct Keyword {
  std::string_view name;
  std::string_view type;  // whose values it constrains
};
constexpr Keyword kTyped[] = {
    {"properties", "object"},
    {"required", "object"},
    {"additionalProperties", "object"},
    {"items", "array"},
    {"prefixItems", "array"},
    {"minItems", "array"},
    {"maxItems", "array"},
    {"uniqueItems", "array"},
    {"minLength", "string"},
    {"maxLength", "string"},
    {"pattern", "string"},
    {"format", "string"},
    {"minimum", "number"},
    {"maximum", "number"},
    {"exclusiveMinimum", "number"},
    {"exclusiveMaximum", "number"},
    {"multipleOf", "number"},
};
constexpr std::string_view kTypes[] = {"object", "array", "string", "number", "integer", "boolean", "null"};

bool is_type(std::string_view type) { return std::find(std::begin(kTypes), std::end(kTypes), type) != std::end(kTypes); }

// The types a schema speaks of; all of them if of none.
std::vector<std::string> types_of(const Place& schema) {
  std::vector<std::string> out;
  if (const Json* type = schema.find("type")) {
    if (type->is_string()) {
      out.push_back(type->get<std::string>());
    } else if (type->is_array() && !type->empty()) {
      for (const Json& t : *type) out.push_back(t.is_string() ? t.get<std::string>() : "");
    }
    if (out.empty() || !std::all_of(out.begin(), out.end(), is_type)) schema.invalid("type", "is not a type of JSON, or a list of them");
  } else {
    for (const Keyword& k : kTyped) {
      if (schema.has(k.name) && std::find(out.begin(), out.end(), k.type) == out.end()) out.emplace_back(k.type);
    }
  }
  if (const Json* nullable = schema.find("nullable"); nullable != nullptr && *nullable == true && !out.empty()) out.emplace_back("null");
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

bool has_type(const Json& value, std::string_view type) {
  if (type == "integer") return value.is_number_integer() || (value.is_number() && std::trunc(value.get<double>()) == value.get<double>());
  if (type == "number") return value.is_number();
  return type == value.type_name();
}

// A whole number that has been read as a double: what was written may have been another.
bool holds_rounded(const Json& value) {
  constexpr double kFirst = 9.2e18;
  if (value.is_number_float()) return std::abs(value.get<double>()) >= kFirst;
  return value.is_structured() && std::any_of(value.begin(), value.end(), holds_rounded);
}

// %20 and the like: a reference is a URI.
std::string without_percents(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    uint8_t byte = 0;
    const char* first = text.data() + i + 1;
    const bool escape = text[i] == '%' && i + 2 < text.size() && std::from_chars(first, first + 2, byte, 16).ptr == first + 2;
    out.push_back(escape ? static_cast<char>(byte) : text[i]);
    i += escape ? 2 : 0;
  }
  return out;
}

std::string unescaped_pointer(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '~' && i + 1 < text.size() && (text[i + 1] == '0' || text[i + 1] == '1');
    out.push_back(!escape ? text[i] : text[i + 1] == '0' ? '~' : '/');
    i += escape ? 1 : 0;
  }
  return out;
}

}  // namespace

bool is_annotation(std::string_view keyword) {
  return keyword.starts_with("x-") || std::find(std::begin(kAnnotations), std::end(kAnnotations), keyword) != std::end(kAnnotations);
}

void check_members(const Place& schema, std::initializer_list<std::string_view> known, std::string_view beside) {
  for (const auto& [name, value] : schema.json.items()) {
    if (is_annotation(name) || std::find(known.begin(), known.end(), name) != known.end()) continue;
    schema.unsupported(name, beside.empty() ? "is not supported" : fmt::format("beside '{}' is not supported", beside));
  }
}

Place Place::at(std::string_view key, size_t index) const { return {json.at(std::string(key)).at(index), fmt::format("{}/{}/{}", path, key, index)}; }

const Json* Place::find(std::string_view key) const {
  const auto it = json.find(std::string(key));
  return it == json.end() ? nullptr : &*it;
}

void Place::unsupported(std::string_view keyword, std::string_view why) const {
  throw_error(ErrorCode::unsupported, "'{}' at {} {}", keyword, path, why);
}

void Place::invalid(std::string_view keyword, std::string_view why) const {
  throw_error(ErrorCode::invalid_argument, "'{}' at {} {}", keyword, path, why);
}

int Place::count(std::string_view key, int otherwise) const {
  constexpr int kMax = 1 << 20;
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_number() || value->get<double>() < 0 ||
      value->get<double>() != static_cast<double>(static_cast<int64_t>(std::min(value->get<double>(), 1e15)))) {
    invalid(key, "is not a whole number of 0 or more");
  }
  if (value->get<double>() > kMax) unsupported(key, "is above 1048576");
  return static_cast<int>(value->get<double>());
}

void SchemaCompiler::run() {
  rule_of({root_, "#"});
  while (!waiting_.empty()) {
    const Waiting next = waiting_.front();
    waiting_.pop_front();
    const int32_t end = builder_.add_node();
    builder_.finish(end);
    try {
      write({*next.schema, next.path}, builder_.start(next.rule), end);
    } catch (const Error& e) {
      const std::string_view text = e.what();
      if (text.find(" at #") != std::string_view::npos) throw;
      throw_error(e.code(), "{} (at {})", text, next.path);  // size and the like
    }
  }
}

int32_t SchemaCompiler::rule_of(const Place& schema) {
  const auto [it, fresh] = rules_.try_emplace(&schema.json, 0);
  if (!fresh) return it->second;
  const int32_t rule = builder_.add_rule();
  it->second = rule;
  waiting_.push_back({&schema.json, schema.path, rule});
  return rule;
}

Place SchemaCompiler::resolve(const Place& schema) const {
  const Json& ref = *schema.find("$ref");
  if (!ref.is_string()) schema.invalid("$ref", "is not a string");
  std::string text = ref.get<std::string>();
  if (text != "#" && !text.starts_with("#/"))
    schema.unsupported("$ref", fmt::format("to '{}' is not supported: only into this schema, by '#/...'", text));
  const Json* target = &root_;
  for (size_t at = 1; at < text.size();) {
    const size_t end = std::min(text.find('/', at + 1), text.size());
    const std::string_view written = std::string_view(text).substr(at + 1, end - at - 1);
    std::string part = unescaped_pointer(without_percents(written));
    if (target->is_object() && !target->contains(part)) part = unescaped_pointer(written);  // a bare '%', as some write it
    const bool index = target->is_array() && !part.empty() && part.size() < 7 && part.find_first_not_of("0123456789") == std::string::npos;
    if (target->is_object() && target->contains(part)) {
      target = &target->at(part);
    } else if (index && std::stoul(part) < target->size()) {
      target = &target->at(std::stoul(part));
    } else {
      schema.invalid("$ref", fmt::format("to '{}' leads nowhere", text));
    }
    at = end;
  }
  return {*target, std::move(text)};
}

Place SchemaCompiler::target_of(const Place& schema, int hops) const {
  if (!schema.json.is_object() || !schema.has("$ref") || hops > 16) return schema;
  return target_of(resolve(schema), hops + 1);
}

void SchemaCompiler::write(const Place& schema, int32_t from, int32_t to) {
  if (schema.json.is_boolean()) {
    if (schema.json.get<bool>()) builder_.call(from, any_value(), to);
    return;
  }
  if (!schema.json.is_object()) throw_error(ErrorCode::invalid_argument, "the schema at {} is neither an object nor true or false", schema.path);
  if (const Json* nullable = schema.find("nullable"); nullable != nullptr && !nullable->is_boolean())
    schema.invalid("nullable", "is not true or false");
  if (schema.has("$ref")) {
    check_members(schema, {"$ref"}, "$ref");
    builder_.call(from, rule_of(resolve(schema)), to);
  } else if (const Json* value = schema.find("const")) {
    check_members(schema, {"const", "type"}, "const");
    write_enum(schema, {*value}, from, to);
  } else if (const Json* values = schema.find("enum")) {
    check_members(schema, {"enum", "type", "nullable"}, "enum");
    if (!values->is_array() || values->empty()) schema.invalid("enum", "is not a list of values");
    write_enum(schema, {values->begin(), values->end()}, from, to);
  } else if (schema.has("anyOf") || schema.has("oneOf") || schema.has("allOf")) {
    const std::string_view keyword = schema.has("anyOf") ? "anyOf" : schema.has("oneOf") ? "oneOf" : "allOf";
    check_members(schema, {keyword, "nullable"}, keyword);
    write_alternatives(schema, keyword, from, to);
  } else {
    write_types(schema, from, to);
  }
}

void SchemaCompiler::write_alternatives(const Place& schema, std::string_view keyword, int32_t from, int32_t to) {
  const Json& parts = *schema.find(keyword);
  if (!parts.is_array() || parts.empty()) schema.invalid(keyword, "is not a list of schemas");
  if (keyword == "allOf" && parts.size() > 1) schema.unsupported(keyword, "of more than one schema is not supported");
  if (keyword == "oneOf" && parts.size() > 1) check_disjoint(schema);
  for (size_t i = 0; i < parts.size(); ++i) builder_.call(from, rule_of(schema.at(keyword, i)), to);
  if (const Json* nullable = schema.find("nullable"); nullable != nullptr && *nullable == true) builder_.skip(write_literal(nullptr, from), to);
}

// oneOf means exactly one. It is anyOf where no value can be of two: of different types, or with different constants under
// a key that all of them require.
void SchemaCompiler::check_disjoint(const Place& schema) const {
  std::vector<std::vector<std::string>> types;
  std::map<std::string, std::vector<Json>> constants;  // by key: of the objects that require it
  size_t num_objects = 0;
  for (size_t i = 0; i < schema.find("oneOf")->size(); ++i) {
    const Place part = target_of(schema.at("oneOf", i), 0);
    const bool plain = part.json.is_object() && part.has("type");
    if (!plain) schema.unsupported("oneOf", "is not supported where its schemas are not told apart by type or by a constant; use anyOf");
    types.push_back(types_of(part));
    if (types.back() != std::vector<std::string>{"object"}) continue;
    ++num_objects;
    const Json* required = part.find("required");
    const Json* properties = part.find("properties");
    if (required == nullptr || properties == nullptr || !required->is_array() || !properties->is_object()) continue;
    for (const Json& key : *required) {
      if (!key.is_string() || !properties->contains(key.get<std::string>())) continue;
      const Json& value = properties->at(key.get<std::string>());
      const bool single = value.is_object() && value.contains("enum") && value["enum"].is_array() && value["enum"].size() == 1;
      if (value.is_object() && value.contains("const")) constants[key].push_back(value["const"]);
      if (single) constants[key].push_back(value["enum"][0]);
    }
  }
  std::vector<std::string> seen;
  bool apart = true;
  for (const auto& list : types) {
    for (const std::string& type : list) {
      const std::string kind = type == "integer" ? "number" : type;
      if (kind == "object" && num_objects > 1 && list.size() == 1) continue;
      apart = apart && std::find(seen.begin(), seen.end(), kind) == seen.end();
      seen.push_back(kind);
    }
  }
  if (num_objects > 1) {
    apart = apart && std::find(seen.begin(), seen.end(), "object") == seen.end();
    const auto tells_apart = [&](const auto& entry) {
      std::vector<std::string> values;
      for (const Json& v : entry.second) values.push_back(v.is_number() ? Json(v.get<double>()).dump() : v.dump());  // 1 is 1.0
      std::sort(values.begin(), values.end());
      return values.size() == num_objects && std::adjacent_find(values.begin(), values.end()) == values.end();
    };
    apart = apart && std::any_of(constants.begin(), constants.end(), tells_apart);
  }
  if (!apart) schema.unsupported("oneOf", "is not supported where its schemas are not told apart by type or by a constant; use anyOf");
}

void SchemaCompiler::write_types(const Place& schema, int32_t from, int32_t to) {
  for (const auto& [name, value] : schema.json.items()) {
    const bool typed = std::any_of(std::begin(kTyped), std::end(kTyped), [&, &key = name](const Keyword& k) { return k.name == key; });
    if (!typed && name != "type" && name != "nullable" && !is_annotation(name)) schema.unsupported(name, "is not supported");
  }
  const std::vector<std::string> types = types_of(schema);
  if (types.empty()) builder_.call(from, any_value(), to);
  const bool number = std::find(types.begin(), types.end(), "number") != types.end();
  for (const std::string& type : types) {
    if (type != "integer" || !number) write_type(schema, type, from, to);  // integers are numbers
  }
}

void SchemaCompiler::write_type(const Place& schema, std::string_view type, int32_t from, int32_t to) {
  if (type == "object") {
    write_object(schema, from, to);
  } else if (type == "array") {
    write_array(schema, from, to);
  } else if (type == "string") {
    builder_.call(from, string_rule(schema), to);
  } else if (type == "number" || type == "integer") {
    builder_.call(from, number_rule(schema, type == "integer"), to);
  } else if (type == "boolean") {
    builder_.texts(from, {"true", "false"}, to);
  } else {
    builder_.skip(write_literal(nullptr, from), to);
  }
}

void SchemaCompiler::write_enum(const Place& schema, const std::vector<Json>& values, int32_t from, int32_t to) {
  if (std::any_of(values.begin(), values.end(), holds_rounded)) {
    schema.unsupported(schema.has("const") ? "const" : "enum", "holds a whole number beyond 64 bits, which is not supported");
  }
  const std::vector<std::string> types = types_of(schema);
  std::vector<std::string> plain;
  for (const Json& value : values) {
    const auto fits = [&value](const std::string& type) { return has_type(value, type); };
    if (!types.empty() && std::none_of(types.begin(), types.end(), fits)) continue;
    if (value.is_structured() && !value.empty()) {
      builder_.skip(write_literal(value, from), to);
    } else {
      plain.push_back(value.dump());
    }
  }
  builder_.texts(from, {plain.begin(), plain.end()}, to);
}

void add_schema(NetworkBuilder& builder, const nlohmann::ordered_json& schema) { SchemaCompiler(builder, schema).run(); }

void add_json_object(NetworkBuilder& builder) {
  const Json schema = {{"type", "object"}};
  SchemaCompiler(builder, schema).run();
}

}  // namespace moegen::grammar
