#include "tokenizer/message_content.h"

#include <string>

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

}  // namespace

void fit_contents(Json& messages, const ContentUse& use) {
  for (Json& message : messages) {
    const auto content = message.find("content");
    if (content == message.end() || content->is_null()) {
      message["content"] = use.as_none && message.contains("tool_calls") ? Json(nullptr) : Json("");
    } else if (content->is_array() && !use.as_parts) {
      *content = joined(*content);
    }
  }
}

}  // namespace moegen
