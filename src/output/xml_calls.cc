// The formats whose calls are tags: one table a format, one parser.
#include <utility>

#include "output/calls.h"
#include "output/cursor.h"

namespace moegen {
namespace {

struct TagStyle {
  std::string_view open, close;            // of a block of calls
  std::string_view call_open, call_close;  // of a call; empty: the block is the call, and begins with the name
  std::string_view key_open, key_close;    // of the key of a parameter
  std::string_view value_open;             // may be empty
  std::string_view value_close;
  // As vLLM has it for these formats: the block's tags, and the closing tags of a value that another tag follows on a line of its
  // own, may be missing.
  bool lenient = false;
  bool framed_values = false;  // a value stands on lines of its own: a line feed on either side is not part of it
};

constexpr TagStyle kQwenCoder{.open = "<tool_call>",
                              .close = "</tool_call>",
                              .call_open = "<function=",
                              .call_close = "</function>",
                              .key_open = "<parameter=",
                              .key_close = ">",
                              .value_open = "",
                              .value_close = "</parameter>",
                              .lenient = true,
                              .framed_values = true};
constexpr TagStyle kGlm{.open = "<tool_call>",
                        .close = "</tool_call>",
                        .call_open = "",
                        .call_close = "",
                        .key_open = "<arg_key>",
                        .key_close = "</arg_key>",
                        .value_open = "<arg_value>",
                        .value_close = "</arg_value>"};
constexpr TagStyle kMiniMax{.open = "<minimax:tool_call>",
                            .close = "</minimax:tool_call>",
                            .call_open = "<invoke name=",
                            .call_close = "</invoke>",
                            .key_open = "<parameter name=",
                            .key_close = ">",
                            .value_open = "",
                            .value_close = "</parameter>",
                            .lenient = true};

std::string_view unquoted(std::string_view name) {
  name = trimmed(name);
  const bool is_quoted = name.size() >= 2 && (name[0] == '"' || name[0] == '\'') && name.back() == name[0];
  return is_quoted ? name.substr(1, name.size() - 2) : name;
}

bool is_key(std::string_view key) { return !key.empty() && key.find_first_of("<>\n") == std::string_view::npos; }

class TagParser {
 public:
  TagParser(const TagStyle& style, std::string_view text, const ToolSchemas& schemas) : style_(style), schemas_(schemas), c_{text} {}

  std::optional<Calls> parse() {
    Calls out;
    while (const auto before = until_block()) {
      out.add_text(*before);
      const bool bare = !c_.skip(style_.open);
      c_.skip_again(style_.open);
      c_.skip_space();
      do {
        auto call = take_call();
        if (!call) return std::nullopt;
        out.add_call(*std::move(call));
        c_.skip_again(style_.call_close);
        c_.skip_space();
      } while (!style_.call_open.empty() && c_.at(style_.call_open));
      const bool closed = c_.skip(style_.close);
      if (closed) c_.skip_again(style_.close);
      if (!closed && !bare && !(style_.lenient && (c_.done() || c_.at(style_.open)))) return std::nullopt;
    }
    out.add_text(c_.rest());
    return out;
  }

 private:
  [[nodiscard]] std::string_view call_end() const { return style_.call_close.empty() ? style_.close : style_.call_close; }

  // What stands before the next block, or before the next call where a block's tags may be missing.
  std::optional<std::string_view> until_block() {
    const size_t begin = c_.pos;
    for (size_t at = begin; (at = c_.text.find('<', at)) != std::string_view::npos; ++at) {
      const Cursor here{c_.text, at};
      if (!here.at(style_.open) && !(style_.lenient && here.at(style_.call_open))) continue;
      c_.pos = at;
      return c_.text.substr(begin, at - begin);
    }
    return std::nullopt;
  }

  // The end of a call; a block that is the call leaves its closing tag to the caller.
  bool at_call_end() {
    if (style_.call_close.empty()) return c_.at(style_.close);
    return c_.skip(style_.call_close) || (style_.lenient && c_.at(style_.close));
  }

  std::optional<std::string_view> take_name() {
    if (!style_.call_open.empty()) return c_.skip(style_.call_open) ? c_.until(style_.key_close) : std::nullopt;
    const size_t end = std::min(c_.text.find_first_of("\n<", c_.pos), c_.text.size());
    const std::string_view name = c_.text.substr(c_.pos, end - c_.pos);
    c_.pos = end;
    return name;
  }

  std::optional<ToolCall> take_call() {
    const auto name = take_name();
    if (!name || !is_function_name(unquoted(*name))) return std::nullopt;
    ToolCall call{.id = {}, .name = std::string(unquoted(*name)), .arguments = {}};
    ObjectText arguments;
    for (c_.skip_space(); !at_call_end(); c_.skip_space()) {
      if (!c_.skip(style_.key_open)) return std::nullopt;
      const auto key = c_.until(style_.key_close);
      if (!key || !is_key(unquoted(*key))) return std::nullopt;
      if (!style_.value_open.empty()) c_.skip_space();
      const std::string name_of_parameter(unquoted(*key));
      const nlohmann::json* schema = schemas_.parameter(call.name, name_of_parameter);
      auto value = c_.skip(style_.value_open) ? take_value(call.name, schema) : std::nullopt;
      if (!value) return std::nullopt;
      if (style_.framed_values && value->starts_with('\n')) value->remove_prefix(1);
      if (style_.framed_values && value->ends_with('\n')) value->remove_suffix(1);
      arguments.set(name_of_parameter, typed_value(schema, *value));
    }
    call.arguments = arguments.text();
    return call;
  }

  // A value may hold anything, tags as well: its end is a closing tag behind which the format goes on. Where it goes on within
  // the value, something between was malformed.
  std::optional<std::string_view> take_value(std::string_view tool, const nlohmann::json* schema) {
    const size_t begin = c_.pos;
    bool holds_close = false;
    for (size_t at = begin; (at = c_.text.find('<', at)) != std::string_view::npos; ++at) {
      const Cursor here{c_.text, at};
      if (here.at(style_.value_close)) {
        c_.pos = at + style_.value_close.size();
        c_.skip_again(style_.value_close);
        if (goes_on(c_)) return c_.text.substr(begin, at - begin);
        if (!holds_close && !may_be_string(schema)) return std::nullopt;
        holds_close = true;
        at = c_.pos - 1;
      } else if (holds_close && (at_key(here, tool) || ends_call(here))) {
        return std::nullopt;
      } else if (style_.lenient && c_.text[at - 1] == '\n' && (at_key(here, tool) || ends_call(here))) {
        c_.pos = at;
        return c_.text.substr(begin, at - begin);
      }
    }
    return std::nullopt;
  }

  [[nodiscard]] bool goes_on(Cursor c) const {
    c.skip_space();
    return c.at(style_.key_open) || c.at(call_end()) || (style_.lenient && c.at(style_.close));
  }

  // The next parameter of the tool.
  [[nodiscard]] bool at_key(Cursor c, std::string_view tool) const {
    if (!c.skip(style_.key_open)) return false;
    constexpr size_t kMaxKeyBytes = 256;
    const std::string_view rest = c.rest().substr(0, kMaxKeyBytes);
    const size_t end = rest.find(style_.key_close);
    return end != std::string_view::npos && schemas_.parameter(tool, std::string(unquoted(rest.substr(0, end)))) != nullptr;
  }

  [[nodiscard]] bool ends_call(Cursor c) const {
    if (!c.skip(call_end())) return false;
    c.skip_space();
    const bool in_block = !style_.call_open.empty();
    return c.done() || c.at(style_.open) || (in_block && (c.at(style_.close) || c.at(style_.call_open)));
  }

  const TagStyle& style_;
  const ToolSchemas& schemas_;
  Cursor c_;
};

}  // namespace

std::optional<Calls> parse_qwen_coder_calls(std::string_view text, const ToolSchemas& schemas) {
  return TagParser(kQwenCoder, text, schemas).parse();
}

std::optional<Calls> parse_glm_calls(std::string_view text, const ToolSchemas& schemas) { return TagParser(kGlm, text, schemas).parse(); }

std::optional<Calls> parse_minimax_calls(std::string_view text, const ToolSchemas& schemas) { return TagParser(kMiniMax, text, schemas).parse(); }

}  // namespace moegen
