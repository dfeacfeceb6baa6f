#include "api/model_texts.h"

#include <utility>

#include "base/error.h"
#include "base/json.h"

namespace moegen {
namespace {

// A context of JSON texts for the template; empty means absent.
nlohmann::ordered_json json_or_null(const std::string& text, const char* what) {
  return text.empty() ? nlohmann::ordered_json() : parse_ordered_json(text, what);
}

}  // namespace

std::shared_ptr<const ModelTexts> load_texts(const EngineOptions& options) {
  auto out = std::make_shared<ModelTexts>();
  if (options.skip_tokenizer_init) return out;
  if (!std::filesystem::exists(options.model / "tokenizer.json")) {
    throw_error(ErrorCode::not_found, "{}: no tokenizer.json: give token ids and --skip-tokenizer-init, or add the file", options.model.string());
  }
  out->tokenizer = Tokenizer::load(options.model);
  out->chat_template = ChatTemplate::load(options.model);
  return out;
}

ChatRequest chat_request(const Chat& chat) {
  ChatRequest r;
  r.messages = json_or_null(chat.messages, "messages");
  r.tools = json_or_null(chat.tools, "tools");
  r.documents = json_or_null(chat.documents, "documents");
  r.kwargs = json_or_null(chat.template_kwargs, "chat_template_kwargs");
  r.add_generation_prompt = chat.add_generation_prompt;
  r.continue_final_message = chat.continue_final_message;
  r.fit_contents = true;
  if (!chat.now.empty()) r.now = chat.now;
  if (!chat.chat_template.empty()) r.chat_template = chat.chat_template;
  return r;
}

}  // namespace moegen
