#include <optional>
#include <utility>

#include "base/error.h"
#include "batch/body.h"
#include "batch/json_text.h"
#include "batch/refusal.h"

namespace moegen {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

constexpr size_t kMaxPrompts = 2048;
// Templates see objects in the order of their keys, and finding a key in such an object takes time in proportion to its size.
constexpr size_t kMaxMembers = 1024;

std::vector<TokenId> prompt_ids(const Field& field, const Json& value) { return Field{field.name, Field{field.name, value}.list()}.ids(); }

void check_members(const Field& field, const Json& value) {
  if (value.is_object() && value.size() > kMaxMembers) {
    refuse("invalid_value", field.name, "'{}' has an object with {} members, more than {}", field.name, value.size(), kMaxMembers);
  }
  if (!value.is_structured()) return;
  for (const Json& inner : value) check_members(field, inner);
}

// The field's text, ready for a template.
std::string ordered_text(const Field& field, const Body& body) {
  check_members(field, field.value);
  return std::string(member_text(body.text, field.name));
}

// A member of a message or tool that has to be there and be a string that is not empty.
void require_text(const Field& field, const OrderedJson& object, const char* key, const std::string& where) {
  const auto found = object.find(key);
  if (found == object.end()) refuse("missing_required_parameter", field.name, "'{}.{}' is missing", where, key);
  if (!found->is_string()) refuse("invalid_type", field.name, "'{}.{}' has to be a string", where, key);
  if (found->empty() || found->get_ref<const std::string&>().empty()) refuse("invalid_value", field.name, "'{}.{}' is empty", where, key);
}

void check_parts(const Field& field, const OrderedJson& parts, const std::string& where) {
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string part = fmt::format("{}.content[{}]", where, i);
    if (!parts[i].is_object()) refuse("invalid_type", field.name, "'{}' has to be an object", part);
    require_text(field, parts[i], "type", part);
    const std::string type = parts[i]["type"];
    if (type != "text") refuse("unsupported_value", field.name, "'{}' is of type '{}'; only 'text' is supported here", part, type);
    const auto found = parts[i].find("text");
    if (found == parts[i].end() || !found->is_string()) refuse("invalid_type", field.name, "'{}.text' has to be a string", part);
  }
}

void check_content(const Field& field, const OrderedJson& message, const std::string& where) {
  const auto found = message.find("content");
  if (found == message.end() || found->is_null()) {
    if (message["role"] == "assistant") return;
    if (found == message.end()) refuse("missing_required_parameter", field.name, "'{}.content' is missing", where);
    refuse("invalid_type", field.name, "'{}.content' has to be a string or an array of parts, not null", where);
  } else if (found->is_array()) {
    check_parts(field, *found, where);
  } else if (!found->is_string()) {
    refuse("invalid_type", field.name, "'{}.content' has to be a string or an array of parts", where);
  }
}

// OpenAI gives the arguments of a call as a string, which has to be JSON. Templates expect that a message without calls has no list of them.
void normalize_tool_calls(const Field& field, OrderedJson& message, const std::string& where) {
  const auto calls = message.find("tool_calls");
  if (calls == message.end()) return;
  if (!calls->is_null() && !calls->is_array()) refuse("invalid_type", field.name, "'{}.tool_calls' has to be an array", where);
  if (calls->empty()) {
    message.erase(calls);
    return;
  }
  for (OrderedJson& call : *calls) {
    if (!call.is_object() || !call.contains("function") || !call["function"].is_object()) {
      refuse("invalid_type", field.name, "'{}.tool_calls' has to hold objects with a 'function'", where);
    }
    OrderedJson& function = call["function"];
    require_text(field, function, "name", where + ".tool_calls.function");
    OrderedJson& arguments = function["arguments"];
    if (arguments.is_null() || arguments == "") arguments = "{}";
    if (!arguments.is_string()) continue;
    try {
      check_members(field, parse_json(arguments.get<std::string>(), "arguments", {.unique_keys = true}));
    } catch (const Error& error) {
      refuse("invalid_value", field.name, "'{}.tool_calls': {}", where, error.what());
    }
  }
}

}  // namespace

void read_prompt(const Field& field, Body& body) {
  std::vector<Prompt>& prompts = body.result.request.prompts;
  const auto add_text = [&](const std::string& text) {
    if (text.empty()) refuse("invalid_value", field.name, "'{}' is an empty string", field.name);
    prompts.emplace_back(text);
  };
  field.require(field.value.is_string() || field.value.is_array(), "a string, an array of strings, token ids, or an array of arrays of token ids");
  if (field.value.is_string()) return add_text(field.text());
  const Json& first = field.list().front();
  if (!first.is_string() && !first.is_array()) {
    prompts.emplace_back(field.ids());
    return;
  }
  if (field.value.size() > kMaxPrompts) {
    refuse("array_above_max_length", field.name, "'{}' may hold at most {} prompts, not {}", field.name, kMaxPrompts, field.value.size());
  }
  for (const Json& entry : field.value) {
    if (entry.type() != first.type()) refuse("invalid_type", field.name, "'{}' mixes prompts of different kinds", field.name);
    if (entry.is_string()) {
      add_text(entry.get_ref<const std::string&>());
    } else {
      prompts.emplace_back(prompt_ids(field, entry));
    }
  }
}

void read_messages(const Field& field, Body& body) {
  static_cast<void>(field.list());
  OrderedJson messages = parse_ordered_json(ordered_text(field, body), field.name);
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string where = fmt::format("messages[{}]", i);
    if (!messages[i].is_object()) refuse("invalid_type", field.name, "'{}' has to be an object", where);
    require_text(field, messages[i], "role", where);
    check_content(field, messages[i], where);
    normalize_tool_calls(field, messages[i], where);
  }
  body.chat.messages = messages.dump();
}

void read_tools(const Field& field, Body& body) {
  field.require(field.value.is_array(), "an array");
  for (size_t i = 0; i < field.value.size(); ++i) {
    const std::string where = fmt::format("tools[{}]", i);
    const Json& tool = field.value[i];
    const auto function = tool.is_object() ? tool.find("function") : tool.end();
    if (!tool.is_object() || function == tool.end() || !function->is_object()) {
      refuse("invalid_type", field.name, "'{}' has to be an object with a 'function'", where);
    }
    if (tool.value("type", Json()) != "function") refuse("unsupported_value", field.name, "'{}.type' can only be 'function' here", where);
    const auto name = function->find("name");
    if (name == function->end() || !name->is_string()) refuse("invalid_type", field.name, "'{}.function.name' has to be a string", where);
  }
  if (!field.value.empty()) body.chat.tools = ordered_text(field, body);
}

void read_documents(const Field& field, Body& body) {
  field.require(field.value.is_array(), "an array");
  for (const Json& document : field.value) {
    if (!document.is_object()) refuse("invalid_type", field.name, "'documents' has to hold objects");
  }
  if (!field.value.empty()) body.chat.documents = ordered_text(field, body);
}

void read_template_kwargs(const Field& field, Body& body) {
  static_cast<void>(field.object());
  body.chat.template_kwargs = ordered_text(field, body);
}

}  // namespace moegen
