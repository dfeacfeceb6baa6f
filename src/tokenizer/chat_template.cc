#include "tokenizer/chat_template.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "tokenizer/python_text.h"

namespace moegen {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxTemplateBytes = 4 << 20;
constexpr uint64_t kMaxConfigBytes = 64 << 20;
constexpr size_t kMaxTemplates = 256;

std::string token_text(const Json& v) {
  if (v.is_string()) return v.get<std::string>();
  if (v.is_object() && v.contains("content") && v["content"].is_string()) return v["content"].get<std::string>();
  return {};
}

Json special_tokens(const Json& config) {
  Json tokens = Json::object();
  for (const char* name : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    const auto it = config.find(name);
    if (it != config.end() && (it->is_string() || it->is_object())) tokens[name] = token_text(*it);
  }
  return tokens;
}

// The last message stays open: what was rendered is cut where its content ends.
std::string cut_behind(const std::string& rendered, const std::string& content) {
  const std::string_view stripped = python::strip(content, python::Side::both);
  const size_t at = rendered.rfind(stripped);
  if (at == std::string::npos) {
    throw_error(ErrorCode::invalid_argument, "continue_final_message: the final message does not appear in the rendered chat");
  }
  // A template that strips its messages leaves nothing of the content's trailing white space.
  const std::string_view with_tail = std::string_view(content).substr(static_cast<size_t>(stripped.data() - content.data()));
  const bool kept = rendered.compare(at, with_tail.size(), with_tail) == 0;
  return rendered.substr(0, at + (kept ? with_tail.size() : stripped.size()));
}

std::string final_content(const Json& messages) {
  if (messages.empty()) throw_error(ErrorCode::invalid_argument, "continue_final_message: there is no message");
  const Json& last = messages.back();
  const auto it = last.is_object() ? last.find("content") : last.end();
  if (!last.is_object() || it == last.end()) throw_error(ErrorCode::invalid_argument, "continue_final_message: the final message has no content");
  if (it->is_string()) return it->get<std::string>();
  if (it->is_array()) {
    for (auto part = it->rbegin(); part != it->rend(); ++part) {
      if (part->is_object() && part->contains("text") && (*part)["text"].is_string()) return (*part)["text"].get<std::string>();
    }
  }
  throw_error(ErrorCode::invalid_argument, "continue_final_message: the final message has no text");
}

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

  [[nodiscard]] const Template& choose(bool with_tools) const {
    const std::string name = name_for(with_tools);
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
  const fs::path config_path = dir / "tokenizer_config.json";
  Json config = Json::object();
  if (fs::exists(config_path)) {
    config = parse_ordered_json(read_text_file(config_path, kMaxConfigBytes), config_path.string());
    if (!config.is_object()) throw_error(ErrorCode::corrupt, "{}: is no object", config_path.string());
    impl->tokens = special_tokens(config);
  }
  const fs::path file = dir / "chat_template.jinja";
  const fs::path more = dir / "additional_chat_templates";
  if (fs::exists(file)) {
    impl->add("default", read_text_file(file, kMaxTemplateBytes));
  } else {
    impl->add_from_config(config, config_path.string());
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

std::string_view ChatTemplate::source(bool with_tools) const {
  const auto it = impl_->sources.find(impl_->name_for(with_tools));
  return it == impl_->sources.end() ? std::string_view() : it->second;
}

std::string ChatTemplate::render(const ChatRequest& request) const {
  if (!request.messages.is_array()) throw_error(ErrorCode::invalid_argument, "\"messages\" has to be an array");
  if (!request.kwargs.is_null() && !request.kwargs.is_object())
    throw_error(ErrorCode::invalid_argument, "the chat template's variables have to be an object");
  if (request.continue_final_message && request.add_generation_prompt) {
    throw_error(ErrorCode::invalid_argument, "continue_final_message and add_generation_prompt exclude each other");
  }
  Json context = Json::object();
  context["messages"] = request.messages;
  context["tools"] = request.tools;
  context["documents"] = request.documents;
  context["add_generation_prompt"] = request.add_generation_prompt;
  for (const auto& [name, value] : impl_->tokens.items()) context[name] = value;
  if (request.kwargs.is_object()) {
    for (const auto& [name, value] : request.kwargs.items()) context[name] = value;
  }
  const bool with_tools = !request.tools.is_null();
  const std::string rendered = request.chat_template ? Template::parse(*request.chat_template).render(context, request.now)
                                                     : impl_->choose(with_tools).render(context, request.now);
  return request.continue_final_message ? cut_behind(rendered, final_content(request.messages)) : rendered;
}

}  // namespace moegen
