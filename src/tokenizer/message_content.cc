#include "tokenizer/message_content.h"

#include <string>

#include "base/json.h"

namespace moegen {
namespace {

using Json = nlohmann::ordered_json;

std::string joined(const Json& parts) {
  std::string text;
  for (const Json& part : parts) {
    if (&part != &parts.front()) text += '\n';
    text += part.value("text", "");
  }
  return text;
}

void read_arguments(Json& message) {
  const auto calls = message.find("tool_calls");
  if (calls == message.end() || !calls->is_array()) return;
  for (Json& call : *calls) {
    if (!call.is_object() || !call.contains("function") || !call["function"].is_object()) continue;
    const auto arguments = call["function"].find("arguments");
    if (arguments == call["function"].end() || !arguments->is_string()) continue;
    *arguments = parse_ordered_json(arguments->get<std::string>(), "arguments");
  }
}

}  // namespace

void fit_contents(Json& messages, const ContentUse& use) {
  for (Json& message : messages) {
    if (!use.writes_arguments || use.reads_arguments) read_arguments(message);
    const auto content = message.find("content");
    if (content == message.end() || content->is_null()) {
      message["content"] = use.as_none && message.contains("tool_calls") ? Json(nullptr) : Json("");
    } else if (content->is_array() && !use.as_parts) {
      *content = joined(*content);
    }
  }
}

}  // namespace moegen
