// What the answer's text has to be: OpenAI's `response_format`, vLLM's `structured_outputs`.
#include "batch/body.h"
#include "batch/json_text.h"
#include "batch/refusal.h"

namespace moegen {
namespace {

using Json = nlohmann::json;
using Kind = StructuredOutput::Kind;

constexpr size_t kMaxChoices = 16384;

void set(Body& body, const Field& field, Kind kind, std::string text) {
  std::optional<StructuredOutput>& wanted = body.result.request.sampling.structured_output;
  if (wanted) refuse("invalid_value", field.name, "'response_format' and 'structured_outputs' together: only one of them can be honoured");
  wanted = {kind, std::move(text), std::string(field.name)};
}

const Json& member(const Field& field, const Json& object, const char* key, const std::string& path) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) refuse("missing_required_parameter", field.name, "'{}.{}' is missing", path, key);
  return *found;
}

void require(bool right, const Field& field, const std::string& path, std::string_view expected) {
  if (!right) refuse("invalid_type", field.name, "'{}' has to be {}", path, expected);
}

void check_schema_format(const Field& field, const Json& format) {
  const std::string path = "response_format.json_schema";
  require(format.is_object(), field, path, "an object");
  for (const auto& [name, value] : format.items()) {
    const std::string at = fmt::format("{}.{}", path, name);
    if (name == "schema") {
      require(value.is_object() || value.is_boolean() || value.is_null(), field, at, "an object");
    } else if (name == "name" || name == "description") {
      require(value.is_string() || (name == "description" && value.is_null()), field, at, "a string");
    } else if (name == "strict") {
      require(value.is_boolean() || value.is_null(), field, at, "true or false");
    } else {
      refuse("invalid_value", field.name, "there is no '{}'", at);
    }
  }
}

std::string choice_text(const Field& field, const Json& value) {
  require(value.is_array(), field, "structured_outputs.choice", "an array of strings");
  if (value.empty()) refuse("invalid_value", field.name, "'structured_outputs.choice' is empty");
  if (value.size() > kMaxChoices) refuse("invalid_value", field.name, "'structured_outputs.choice' has more than {} entries", kMaxChoices);
  for (const Json& entry : value) {
    require(entry.is_string(), field, "structured_outputs.choice", "an array of strings");
    if (entry.get_ref<const std::string&>().empty()) refuse("invalid_value", field.name, "'structured_outputs.choice' has an empty string");
  }
  return value.dump();
}

// The one member that is not null: vLLM's clients send all.
std::string only_member(const Field& field) {
  std::string found;
  for (const auto& [name, value] : field.object().items()) {
    if (value.is_null()) continue;
    const bool option = name == "disable_fallback" || name == "disable_any_whitespace" || name == "disable_additional_properties";
    if (option && value == false) continue;
    if (option || name == "grammar" || name == "structural_tag" || name == "whitespace_pattern") {
      refuse("unsupported_value", field.name, "'structured_outputs.{}' is not supported", name);
    }
    if (name != "regex" && name != "choice" && name != "json" && name != "json_object") {
      refuse("invalid_value", field.name, "there is no 'structured_outputs.{}'", name);
    }
    if (name == "json_object" && value == false) continue;
    if (!found.empty()) refuse("invalid_value", field.name, "'structured_outputs' has both '{}' and '{}': exactly one is possible", found, name);
    found = name;
  }
  if (found.empty()) refuse("invalid_value", field.name, "'structured_outputs' needs one of 'regex', 'choice', 'json' and 'json_object'");
  return found;
}

}  // namespace

void read_response_format(const Field& field, Body& body) {
  const Json& type = member(field, field.object(), "type", "response_format");
  if (type == "text") return;
  if (type == "json_object") {
    set(body, field, Kind::json_object, "");
  } else if (type == "json_schema") {
    const Json& format = member(field, field.value, "json_schema", "response_format");
    check_schema_format(field, format);
    static_cast<void>(member(field, format, "schema", "response_format.json_schema"));
    set(body, field, Kind::json_schema, std::string(member_text(member_text(member_text(body.text, field.name), "json_schema"), "schema")));
  } else if (type == "structural_tag") {
    refuse("unsupported_value", field.name, "'response_format.type' 'structural_tag' is not supported");
  } else {
    refuse("invalid_value", field.name, "'response_format.type' has to be 'text', 'json_object' or 'json_schema'");
  }
}

void read_structured_outputs(const Field& field, Body& body) {
  const std::string name = only_member(field);
  const Json& value = field.value[name];
  if (name == "regex") {
    require(value.is_string(), field, "structured_outputs.regex", "a string");
    if (value.get_ref<const std::string&>().empty()) refuse("invalid_value", field.name, "'structured_outputs.regex' is empty");
    set(body, field, Kind::regex, value.get<std::string>());
  } else if (name == "choice") {
    set(body, field, Kind::choice, choice_text(field, value));
  } else if (name == "json_object") {
    require(value.is_boolean(), field, "structured_outputs.json_object", "true or false");
    set(body, field, Kind::json_object, "");
  } else {
    require(value.is_object() || value.is_boolean() || value.is_string(), field, "structured_outputs.json", "an object or a string of JSON");
    std::string text = value.is_string() ? value.get<std::string>() : std::string(member_text(member_text(body.text, field.name), "json"));
    set(body, field, Kind::json_schema, std::move(text));
  }
}

}  // namespace moegen
