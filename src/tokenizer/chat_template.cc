#include "tokenizer/chat_template.h"

#include <algorithm>
#include <array>
#include <map>

#include "base/error.h"
#include "base/file.h"
#include "base/text_search.h"
#include "tokenizer/python_text.h"
#include "tokenizer/token_config.h"

namespace moegen {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxTemplateBytes = 4 << 20;
constexpr size_t kMaxTemplates = 256;

std::string token_text(const Json& v) {
  if (v.is_string()) return v.get<std::string>();
  if (v.is_object() && v.contains("content") && v["content"].is_string()) return v["content"].get<std::string>();
  return {};
}

// The names that end in "_token", those of a model ("image_token") as well, and what "extra_special_tokens" names.
void add_special_tokens(Json& tokens, const Json& config) {
  const auto extra = config.find("extra_special_tokens");
  for (const Json* names : {&config, extra != config.end() && extra->is_object() ? &*extra : nullptr}) {
    if (names == nullptr) continue;
    for (const auto& [name, value] : names->items()) {
      if (names == &config && !name.ends_with("_token")) continue;
      if (value.is_string() || (value.is_object() && value.contains("content"))) tokens[name] = token_text(value);
    }
  }
}

constexpr std::array<const char*, 3> kReasoning = {"reasoning_content", "thinking", "reasoning"};

// As transformers does it: reasoning is found by the names that templates read it by.
void alias_reasoning(Json& messages) {
  for (Json& message : messages) {
    if (!message.is_object()) continue;
    const auto* given =
        std::find_if(kReasoning.begin(), kReasoning.end(), [&](const char* name) { return message.contains(name) && !message[name].is_null(); });
    if (given == kReasoning.end()) continue;
    Json with_names = Json::object();
    with_names["thinking"] = message[*given];
    for (auto& [name, value] : message.items()) with_names[name] = value;
    with_names["reasoning_content"] = message[*given];
    message = std::move(with_names);
  }
}

// The last message of a conversation, which stays open: a tag behind its text shows where to cut what is rendered. As in transformers.
class OpenEnd {
 public:
  explicit OpenEnd(Json& messages) {
    if (messages.empty()) refuse("there is no message");
    Json& last = messages.back();
    if (!last.is_object() || !last.contains("content") || last["content"].is_null()) refuse("the final message has no content");
    Json* text = &last["content"];
    if (text->is_array()) {
      const auto part = std::find_if(text->rbegin(), text->rend(), [](const Json& p) { return p.is_object() && p.contains("text"); });
      if (part == text->rend()) refuse("the final message has no text");
      text = &(*part)["text"];
    }
    if (!text->is_string()) refuse("the final message has no text");
    content_ = python::strip(text->get_ref<const std::string&>(), python::Side::both);
    *text = text->get_ref<const std::string&>() + kTag;
  }

  [[nodiscard]] std::string cut(std::string rendered) const {
    const std::string_view tag = python::strip(kTag, python::Side::right);
    const size_t at = rendered.rfind(tag);
    if (at == std::string::npos || find_text(rendered, content_) == std::string::npos)
      refuse("the final message does not appear in the rendered chat");
    const bool spaces_kept = std::string_view(rendered).substr(at).starts_with(kTag);
    rendered.resize(at);
    if (!spaces_kept) rendered.resize(python::strip(rendered, python::Side::right).size());
    return rendered;
  }

 private:
  static constexpr const char* kTag = "CONTINUE_FINAL_MESSAGE_TAG ";
  [[noreturn]] static void refuse(const char* why) { throw_error(ErrorCode::invalid_argument, "continue_final_message: {}", why); }
  std::string content_;
};

}  // namespace

struct ChatTemplate::Impl {
  std::map<std::string, std::string> sources;  // by name; "default" is the usual one
  std::map<std::string, Template> parsed;      // parsed at load, or missing where it does not parse
  std::map<std::string, std::string> faults;   // why
  Json tokens = Json::object();

  void add(std::string name, std::string source) {
    if (sources.size() >= kMaxTemplates) throw_error(ErrorCode::corrupt, "more than {} chat templates", kMaxTemplates);
    sources[std::move(name)] = std::move(source);
  }

  void add_from_config(const Json& config, const std::string& where) {
    const auto it = config.find("chat_template");
    if (it == config.end() || it->is_null()) return;
    if (it->is_string()) {
      add("default", it->get<std::string>());
      return;
    }
    if (!it->is_array()) throw_error(ErrorCode::corrupt, "{}: chat_template is neither a text nor a list", where);
    for (const Json& t : *it) {
      const bool good = t.is_object() && t.contains("name") && t["name"].is_string() && t.contains("template") && t["template"].is_string();
      if (!good) throw_error(ErrorCode::corrupt, "{}: a chat_template of the list has no name and template", where);
      add(t["name"].get<std::string>(), t["template"].get<std::string>());
    }
  }

  // A template that this engine cannot parse must not keep the checkpoint from being used without it.
  void parse_all() {
    for (const auto& [name, source] : sources) {
      try {
        parsed.emplace(name, Template::parse(source));
      } catch (const Error& e) {
        faults[name] = e.what();
      }
    }
  }

  [[nodiscard]] std::string name_for(bool with_tools) const {
    if (sources.size() == 1) return sources.begin()->first;
    return with_tools && sources.contains("tool_use") ? "tool_use" : "default";
  }

  [[nodiscard]] const Template& choose(const std::string& name) const {
    if (sources.empty()) throw_error(ErrorCode::invalid_argument, "the checkpoint has no chat template, and the request brings none");
    if (!sources.contains(name)) throw_error(ErrorCode::invalid_argument, "the checkpoint has several chat templates and none is the default");
    const auto it = parsed.find(name);
    if (it == parsed.end()) throw_error(ErrorCode::invalid_argument, "the chat template of the checkpoint cannot be used: {}", faults.at(name));
    return it->second;
  }
};

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

ChatTemplate ChatTemplate::load(const std::filesystem::path& dir) {
  namespace fs = std::filesystem;
  auto impl = std::make_unique<Impl>();
  const Json config = text::TokenConfig::load(dir).members;
  add_special_tokens(impl->tokens, config);
  const fs::path file = dir / "chat_template.jinja";
  const fs::path more = dir / "additional_chat_templates";
  if (fs::exists(file)) {
    impl->add("default", read_text_file(file, kMaxTemplateBytes));
  } else {
    impl->add_from_config(config, (dir / "tokenizer_config.json").string());
  }
  if (fs::is_directory(more)) {
    for (const auto& entry : fs::directory_iterator(more)) {
      if (entry.path().extension() == ".jinja") impl->add(entry.path().stem().string(), read_text_file(entry.path(), kMaxTemplateBytes));
    }
  }
  impl->parse_all();
  return ChatTemplate(std::move(impl));
}

bool ChatTemplate::has_template() const { return !impl_->sources.empty(); }

std::string_view ChatTemplate::source(std::string_view own, bool with_tools) const {
  const auto it = impl_->sources.find(own.empty() ? impl_->name_for(with_tools) : std::string(own));
  return it == impl_->sources.end() ? own : it->second;
}

std::string ChatTemplate::render(const ChatRequest& request) const {
  if (!request.messages.is_array()) throw_error(ErrorCode::invalid_argument, "\"messages\" has to be an array");
  if (!request.kwargs.is_null() && !request.kwargs.is_object())
    throw_error(ErrorCode::invalid_argument, "the chat template's variables have to be an object");
  if (request.continue_final_message && request.add_generation_prompt) {
    throw_error(ErrorCode::invalid_argument, "continue_final_message and add_generation_prompt exclude each other");
  }
  const std::string wanted = request.chat_template.value_or(impl_->name_for(!request.tools.is_null()));
  std::optional<Template> own;
  if (request.chat_template && !impl_->sources.contains(wanted)) own = Template::parse(wanted);
  const Template& chosen = own ? *own : impl_->choose(wanted);
  Json messages = request.messages;
  if (request.fit_contents) fit_contents(messages, chosen.content_use());
  alias_reasoning(messages);
  std::optional<OpenEnd> open_end;
  if (request.continue_final_message) open_end.emplace(messages);
  Json context = Json::object();
  context["messages"] = std::move(messages);
  context["tools"] = request.tools;
  context["documents"] = request.documents;
  context["add_generation_prompt"] = request.add_generation_prompt;
  for (const auto& [name, value] : impl_->tokens.items()) context[name] = value;
  if (request.kwargs.is_object()) {
    for (const auto& [name, value] : request.kwargs.items()) context[name] = value;
  }
  std::string rendered = chosen.render(context, request.now);
  return open_end ? open_end->cut(std::move(rendered)) : rendered;
}

}  // namespace moegen
