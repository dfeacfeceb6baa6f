#include "batch/request_line.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "batch/body.h"
#include "batch/json_text.h"
#include "batch/refusal.h"

namespace moegen {
namespace {

using Json = nlohmann::json;

constexpr JsonLimits kLimits{.max_depth = 64, .unique_keys = true};
constexpr size_t kMaxMessageBytes = 400;  // the parser quotes what it read, be it a megabyte

[[noreturn]] void unreadable(const Line& line, std::string message) {
  if (message.size() > kMaxMessageBytes) message = message.substr(0, kMaxMessageBytes) + "...";
  if (!line.complete) message += kInputEndsWithin;
  throw Refusal{{"invalid_json_line", std::move(message), "", kUnreadable}};
}

bool has_clamped_number(const Json& value) {
  if (value.is_number_float()) return std::abs(value.get<double>()) >= std::numeric_limits<double>::max();
  return value.is_structured() && std::any_of(value.begin(), value.end(), has_clamped_number);
}

Field required(const Json& line, std::string_view name) {
  const auto found = line.find(name);
  if (found == line.end()) refuse("missing_required_parameter", name, "'{}' is missing", name);
  return {name, *found};
}

Endpoint read_url(const std::string& url) {
  if (url == "/v1/completions") return Endpoint::completions;
  if (url == "/v1/chat/completions") return Endpoint::chat;
  refuse("invalid_url", "url", "'{}' is not served here; /v1/chat/completions and /v1/completions are", url.substr(0, 100));
}

// Nothing around the body.
bool is_plain(const Json& line) {
  return (line.contains("prompt") || line.contains("messages")) && !line.contains("body") && !line.contains("url") && !line.contains("method");
}

Endpoint read_envelope(const Json& line) {
  if (required(line, "custom_id").text().empty()) refuse("invalid_value", "custom_id", "'custom_id' is an empty string");
  if (required(line, "method").text() != "POST") refuse("invalid_method", "method", "'method' has to be POST");
  const Endpoint endpoint = read_url(required(line, "url").text());
  required(line, "body").object();
  for (const auto& member : line.items()) {
    constexpr std::string_view kKnown[] = {"custom_id", "method", "url", "body"};
    if (std::find(std::begin(kKnown), std::end(kKnown), member.key()) == std::end(kKnown)) {
      refuse("unknown_parameter", member.key(), "there is no parameter '{}' beside 'body'", member.key());
    }
  }
  return endpoint;
}

}  // namespace

void refuse_other_formats(std::string_view first_line, const std::string& input) {
  constexpr std::string_view kSpaces = " \t\r\n";
  if (first_line.starts_with('[')) {
    const size_t inside = first_line.find_first_not_of(kSpaces, 1);
    if (inside == std::string_view::npos || first_line[inside] == '{') {
      throw_error(ErrorCode::invalid_argument, "{}: is a JSON array; requests are read a line each: jq -c '.[]' FILE | moegen run-batch -i - ..",
                  input);
    }
  }
  if (first_line.starts_with("\xff\xfe") || first_line.starts_with("\xfe\xff") || first_line.substr(0, 2) == std::string_view("{\0", 2))
    throw_error(ErrorCode::invalid_argument, "{}: is UTF-16; requests are UTF-8: iconv -f UTF-16 -t UTF-8 FILE | moegen run-batch -i - ..", input);
  if (first_line.find_first_of("[{") == 0) return;
  constexpr std::string_view kColumns[] = {"prompt", "messages", "custom_id"};
  for (size_t at = 0; at < first_line.size();) {
    const size_t end = std::min(first_line.find_first_of(",;\t", at), first_line.size());
    std::string_view name = first_line.substr(at, end - at);
    const size_t begin = std::min(name.find_first_not_of(" \""), name.size());
    name = name.substr(begin, name.find_last_not_of(" \"") + 1 - begin);
    if (std::find(std::begin(kColumns), std::end(kColumns), name) != std::end(kColumns))
      throw_error(ErrorCode::invalid_argument, "{}: CSV is not read here: docs/requests.md has a line that makes JSON lines of it", input);
    at = end + 1;
  }
}

std::optional<std::string> custom_id_at_start(const Line& line) {
  class Finder : public nlohmann::json_sax<Json> {
   public:
    std::string id;
    bool found = false;
    bool null() override { return other(); }
    bool boolean(bool) override { return other(); }
    bool number_integer(number_integer_t) override { return other(); }
    bool number_unsigned(number_unsigned_t) override { return other(); }
    bool number_float(number_float_t, const string_t&) override { return other(); }
    bool binary(binary_t&) override { return other(); }
    bool string(string_t& text) override {
      if (!next_) return true;
      id = text;
      found = true;
      return false;
    }
    bool start_object(size_t) override { return other() && ++depth_ < kLimits.max_depth; }
    bool start_array(size_t) override { return other() && ++depth_ < kLimits.max_depth; }
    bool end_object() override { return end(); }
    bool end_array() override { return end(); }
    bool key(string_t& name) override {
      next_ = depth_ == 1 && name == "custom_id";
      return true;
    }
    bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

   private:
    bool other() { return !next_; }
    bool end() {
      --depth_;
      return true;
    }
    bool next_ = false;
    size_t depth_ = 0;
  } finder;
  static_cast<void>(Json::sax_parse(line.text.begin(), line.text.end(), &finder));
  return finder.found && !finder.id.empty() ? std::optional(finder.id) : std::nullopt;
}

RequestLine::RequestLine(const Line& line) : text_(line.text) {
  const std::string where = fmt::format("line {}", line.number);
  if (line.too_long)
    unreadable(line, fmt::format("{}: longer than the {} bytes that a line may have in this run: --host-memory decides", where, line.limit));
  try {
    line_ = parse_json(text_, where, kLimits);
  } catch (const Error& error) {
    const std::string clamped = without_lone_surrogates(clamp_numbers(text_));
    clamped_ = clamped != text_;
    if (!clamped_) unreadable(line, error.what());
    text_ = clamped;
  }
  try {
    if (clamped_) line_ = parse_json(text_, where, kLimits);
  } catch (const Error& error) {
    unreadable(line, error.what());
  }
  if (!line_.is_object()) unreadable(line, fmt::format("{}: not a JSON object but {}", where, line_.type_name()));
  const auto id = line_.find("custom_id");
  if (id != line_.end() && id->is_string()) custom_id_ = id->get<std::string>();
  plain_ = is_plain(line_);
  if (named_by_place()) custom_id_ = fmt::format("line-{}", line.number);
}

ParsedRequest RequestLine::parse(const std::vector<std::string>& models) const {
  if (!plain_) {
    const Endpoint endpoint = read_envelope(line_);
    return parse_body(line_.at("body"), member_text(text_, "body"), endpoint, models);
  }
  Json body = line_;
  if (body.erase("custom_id") > 0 && custom_id_.value_or("").empty())
    refuse("invalid_value", "custom_id", "'custom_id' is not a string, or an empty one");
  if (body.contains("prompt") && body.contains("messages")) refuse("invalid_value", "messages", "'prompt' and 'messages' exclude each other");
  return parse_body(body, text_, body.contains("prompt") ? Endpoint::completions : Endpoint::chat, models);
}

ParsedRequest RequestLine::parse_body(const Json& body, std::string_view text, Endpoint endpoint, const std::vector<std::string>& models) const {
  for (const auto& member : body.items()) {
    if (clamped_ && has_clamped_number(member.value())) {
      refuse("invalid_value", member.key(), "'{}' holds a number beyond the range of a double", member.key());
    }
  }
  Body draft{.endpoint = endpoint, .text = text, .models = models, .result = {}, .chat = {}, .top_logprobs = {}};
  read_body(body, draft);
  draft.result.request.id = *custom_id_;
  return std::move(draft.result);
}

}  // namespace moegen
