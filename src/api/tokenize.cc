#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/thread_pool.h"
#include "moegen/tokenizer.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"

namespace moegen {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxDepth = 512;

[[noreturn]] void wrong(const std::string& key, const char* what) { throw_error(ErrorCode::invalid_argument, "\"{}\" is not {}", key, what); }

const Json* field(const Json& line, const char* key) {
  const auto it = line.find(key);
  return it == line.end() || it->is_null() ? nullptr : &*it;
}

bool flag(const Json& line, const char* key, bool otherwise) {
  const Json* v = field(line, key);
  if (v == nullptr) return otherwise;
  if (!v->is_boolean()) wrong(key, "true or false");
  return v->get<bool>();
}

const std::string& text_of(const Json& line, const char* key) {
  const Json& v = line.at(key);
  if (!v.is_string()) wrong(key, "a text");
  return v.get_ref<const std::string&>();
}

std::vector<int32_t> ids_of(const Json& line, const char* key) {
  std::vector<int32_t> ids;
  const Json* list = field(line, key);
  if (list == nullptr) return ids;
  if (!list->is_array()) wrong(key, "an array of token ids");
  ids.reserve(list->size());
  for (const Json& v : *list) {
    if (!v.is_number_integer() ||
        (v.is_number_unsigned() ? v.get<uint64_t>() > INT32_MAX : v.get<int64_t>() < INT32_MIN || v.get<int64_t>() > INT32_MAX)) {
      wrong(key, "an array of token ids");
    }
    ids.push_back(v.get<int32_t>());
  }
  return ids;
}

std::optional<std::string> optional_text(const Json& line, const char* key) {
  return field(line, key) != nullptr ? std::optional<std::string>(text_of(line, key)) : std::nullopt;
}

const char* name_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
      return "invalid_argument";
    case ErrorCode::not_found:
      return "not_found";
    case ErrorCode::corrupt:
      return "corrupt";
    case ErrorCode::unsupported:
      return "unsupported";
    case ErrorCode::out_of_memory:
      return "out_of_memory";
    case ErrorCode::io:
      return "io";
  }
  return "internal";
}

Json error_of(const char* code, const std::string& message) { return Json{{"error", Json{{"code", code}, {"message", message}}}}; }

class Answerer {
 public:
  explicit Answerer(const std::filesystem::path& model) : tokenizer_(Tokenizer::load(model)), templates_(ChatTemplate::load(model)) {}

  Json answer(const Json& line) const {
    if (!line.is_object()) throw_error(ErrorCode::invalid_argument, "a line has to be a JSON object");
    if (line.contains("text")) return encode(line);
    if (line.contains("ids")) return flag(line, "stream", false) ? stream(line) : decode(line);
    if (line.contains("messages")) return chat(line);
    if (line.contains("template")) return render(line);
    throw_error(ErrorCode::invalid_argument, "a line has to hold \"text\", \"ids\", \"messages\" or \"template\"");
  }

 private:
  Json encode(const Json& line) const {
    return {{"ids", tokenizer_.encode(text_of(line, "text"), {flag(line, "add_special_tokens", true), flag(line, "parse_special", true)})}};
  }

  Json decode(const Json& line) const { return {{"text", tokenizer_.decode(ids_of(line, "ids"), flag(line, "skip_special_tokens", true))}}; }

  Json stream(const Json& line) const {
    StreamDecoder decoder(tokenizer_, flag(line, "skip_special_tokens", true), ids_of(line, "prompt_ids"));
    Json pieces = Json::array();
    for (const int32_t id : ids_of(line, "ids")) pieces.push_back(decoder.push(id));
    pieces.push_back(decoder.finish());
    return {{"pieces", std::move(pieces)}};
  }

  Json chat(const Json& line) const {
    ChatRequest request;
    request.messages = line.at("messages");
    if (const Json* v = field(line, "tools")) request.tools = *v;
    if (const Json* v = field(line, "documents")) request.documents = *v;
    if (const Json* v = field(line, "chat_template_kwargs")) request.kwargs = *v;
    request.add_generation_prompt = flag(line, "add_generation_prompt", false);
    request.continue_final_message = flag(line, "continue_final_message", false);
    request.chat_template = optional_text(line, "chat_template");
    request.now = optional_text(line, "now");
    return {{"text", templates_.render(request)}};
  }

  static Json render(const Json& line) {
    const Json* context = field(line, "context");
    return {{"text", Template::parse(text_of(line, "template")).render(context != nullptr ? *context : Json::object(), optional_text(line, "now"))}};
  }

  Tokenizer tokenizer_;
  ChatTemplate templates_;
};

// The next line and those that are there already, as many as keep all threads busy for a while; blank ones are left out.
std::vector<std::string> next_lines(std::istream& in) {
  constexpr size_t kMostLines = 1024;
  constexpr size_t kMostBytes = 8 << 20;
  std::vector<std::string> lines;
  size_t bytes = 0;
  for (std::string line;
       (lines.empty() || (bytes < kMostBytes && lines.size() < kMostLines && in.rdbuf()->in_avail() > 0)) && std::getline(in, line);) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    bytes += line.size();
    lines.push_back(std::move(line));
  }
  return lines;
}

std::string answer_line(const Answerer& answerer, const std::string& line) {
  Json answer;
  try {
    answer = answerer.answer(parse_ordered_json(without_lone_surrogates(line), "the line", {.max_depth = kMaxDepth}));
  } catch (const Error& e) {
    answer = error_of(name_of(e.code()), e.what());
  }
  return answer.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
}

}  // namespace

void run_tokenize(const std::filesystem::path& model, std::istream& in, std::ostream& out) {
  const Answerer answerer(model);
  ThreadPool pool(usable_cores());
  for (;;) {
    std::vector<std::string> lines = next_lines(in);
    if (lines.empty()) return;
    pool.parallel_for(static_cast<int64_t>(lines.size()), [&](int64_t i, int) {
      std::string& line = lines[static_cast<size_t>(i)];
      line = answer_line(answerer, line);
    });
    for (const std::string& line : lines) out << line;
    out << std::flush;
  }
}

}  // namespace moegen
