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
  // As vLLM's qwen3_coder: the block's tags, and the closing tags of a value that another tag follows on a line of its own,
  // may be missing.
  bool lenient = false;
  ValueRules values;
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
                              .values = {.trim_newlines = true}};
constexpr TagStyle kGlm{.open = "<tool_call>",
                        .close = "</tool_call>",
                        .call_open = "",
                        .call_close = "",
                        .key_open = "<arg_key>",
                        .key_close = "</arg_key>",
                        .value_open = "<arg_value>",
                        .value_close = "</arg_value>",
                        .values = {.untyped_is_json = true}};
constexpr TagStyle kMiniMax{.open = "<minimax:tool_call>",
                            .close = "</minimax:tool_call>",
                            .call_open = "<invoke name=",
                            .call_close = "</invoke>",
                            .key_open = "<parameter name=",
                            .key_close = ">",
                            .value_open = "",
                            .value_close = "</parameter>",
                            .values = {.trim_strings = true}};

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
    const bool bare = style_.lenient && c_.text.find(style_.open) == std::string_view::npos;
    const std::string_view begin = bare ? style_.call_open : style_.open;
    while (const auto before = c_.until(begin)) {
      out.add_text(*before);
      if (bare) c_.pos -= begin.size();
      c_.skip_space();
      do {
        auto call = take_call();
        if (!call) return std::nullopt;
        out.add_call(*std::move(call));
        c_.skip_space();
      } while (!style_.call_open.empty() && c_.at(style_.call_open));
      if (!c_.skip(style_.close) && !bare && !(style_.lenient && c_.done())) return std::nullopt;
    }
    out.add_text(c_.rest());
    return out;
  }

 private:
  [[nodiscard]] std::string_view call_end() const { return style_.call_close.empty() ? style_.close : style_.call_close; }

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
      const auto value = c_.skip(style_.value_open) ? take_value(call.name) : std::nullopt;
      if (!value) return std::nullopt;
      const std::string name_of_parameter(unquoted(*key));
      arguments.set(name_of_parameter, typed_value(schemas_.parameter(call.name, name_of_parameter), *value, style_.values));
    }
    call.arguments = arguments.text();
    return call;
  }

  // A value may hold anything, tags as well: its end is a closing tag behind which the format goes on.
  std::optional<std::string_view> take_value(std::string_view tool) {
    const size_t begin = c_.pos;
    for (size_t at = begin; (at = c_.text.find('<', at)) != std::string_view::npos; ++at) {
      const Cursor here{c_.text, at};
      const bool closed = here.at(style_.value_close) && goes_on({c_.text, at + style_.value_close.size()});
      if (!closed && !(style_.lenient && ends_value(here, tool))) continue;
      c_.pos = at + (closed ? style_.value_close.size() : 0);
      return c_.text.substr(begin, at - begin);
    }
    return std::nullopt;
  }

  [[nodiscard]] bool goes_on(Cursor c) const {
    c.skip_space();
    return c.at(style_.key_open) || c.at(call_end()) || (style_.lenient && c.at(style_.close));
  }

  // A tag at the begin of a line that can only stand outside of a value: the next parameter of the tool, or the end of the call.
  [[nodiscard]] bool ends_value(Cursor c, std::string_view tool) const {
    if (c.pos == 0 || c.text[c.pos - 1] != '\n') return false;
    if (c.skip(style_.key_open)) {
      constexpr size_t kMaxKeyBytes = 256;
      const std::string_view rest = c.rest().substr(0, kMaxKeyBytes);
      const size_t end = rest.find(style_.key_close);
      return end != std::string_view::npos && schemas_.parameter(tool, std::string(rest.substr(0, end))) != nullptr;
    }
    if (!c.skip(style_.call_close)) return false;
    c.skip_space();
    return c.done() || c.at(style_.close) || c.at(style_.call_open);
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
