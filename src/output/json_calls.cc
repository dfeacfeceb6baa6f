// The formats whose calls are JSON between marks.
#include <utility>

#include "output/calls.h"
#include "output/cursor.h"
#include "output/json_span.h"

namespace moegen {
namespace {

struct Marks {
  std::string_view open, close;
};
constexpr Marks kHermes{"<tool_call>", "</tool_call>"};
constexpr Marks kDeepSeek{"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"};
constexpr Marks kDeepSeekCall{"<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"};
constexpr std::string_view kDeepSeekSeparator = "<｜tool▁sep｜>";
constexpr Marks kKimi{"<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"};
constexpr Marks kKimiCall{"<|tool_call_begin|>", "<|tool_call_end|>"};
constexpr std::string_view kKimiSeparator = "<|tool_call_argument_begin|>";
constexpr std::string_view kMistral = "[TOOL_CALLS]";

std::optional<std::string_view> take_json(Cursor& c) {
  c.skip_space();
  const auto value = json_value(c.rest());
  if (value) c.pos += value->size();
  return value;
}

// {"name": .., "arguments": {..}}; "id" is mistral's.
std::optional<ToolCall> call_object(std::string_view json, bool needs_arguments) {
  ToolCall call;
  std::string_view arguments;
  if (!json.starts_with('{')) return std::nullopt;
  for (const auto& [key, value] : json_members(json)) {
    if (key == "name") call.name = json_string(value);
    if (key == "id") call.id = json_string(value);
    if (key == "arguments") arguments = value;
  }
  if (call.name.empty() || (arguments.empty() && needs_arguments)) return std::nullopt;
  auto object = arguments_object(arguments.empty() ? "{}" : arguments);
  if (!object) return std::nullopt;
  call.arguments = *std::move(object);
  return call;
}

// Calls in sections: `take` reads what stands between the marks of one call.
template <typename Take>
std::optional<Calls> parse_sections(std::string_view text, const Marks& section, const Marks& call, const Take& take) {
  Calls out;
  Cursor c{text};
  while (const auto before = c.until(section.open)) {
    out.add_text(*before);
    const size_t calls_before = out.calls.size();
    c.skip_again(section.open);
    for (c.skip_space(); c.skip(call.open); c.skip_space()) {
      std::optional<ToolCall> one = take(c);
      c.skip_space();
      if (!one || !c.skip(call.close)) return std::nullopt;
      c.skip_again(call.close);
      out.add_call(*std::move(one));
    }
    if (out.calls.size() == calls_before || (!c.skip(section.close) && !c.done())) return std::nullopt;
    c.skip_again(section.close);
  }
  out.add_text(c.rest());
  return out;
}

// V3 and R1: function<｜tool▁sep｜>NAME, a line feed, the arguments in a fence. V3.1: NAME<｜tool▁sep｜>{..}.
std::optional<ToolCall> take_deepseek(Cursor& c) {
  const auto before = c.until(kDeepSeekSeparator);
  if (!before || !is_function_name(trimmed(*before))) return std::nullopt;
  ToolCall call;
  call.name = trimmed(*before);
  c.skip_space();
  const bool fenced = !c.at("{");
  if (fenced) {
    const auto name = c.until("\n");
    if (!name) return std::nullopt;
    call.name = trimmed(*name);
    c.skip_space();
    if (trimmed(*before) != "function" || !c.skip("```json")) return std::nullopt;
  }
  const auto json = take_json(c);
  c.skip_space();
  if (!json || (fenced && !c.skip("```")) || !is_function_name(call.name)) return std::nullopt;
  auto object = arguments_object(*json);
  if (!object) return std::nullopt;
  call.arguments = *std::move(object);
  return call;
}

// The id is [functions.]NAME:COUNT.
std::optional<ToolCall> take_kimi(Cursor& c) {
  const auto before = c.until(kKimiSeparator);
  const auto json = before ? take_json(c) : std::nullopt;
  if (!json) return std::nullopt;
  ToolCall call;
  call.id = trimmed(*before);
  const std::string_view id = call.id;
  const size_t colon = id.rfind(':');
  if (!is_function_name(id) || colon == std::string_view::npos || colon + 1 == id.size()) return std::nullopt;
  if (id.find_first_not_of("0123456789", colon + 1) != std::string_view::npos) return std::nullopt;
  std::string_view name = id.substr(0, colon);
  if (name.starts_with(kFunctionsPrefix)) name.remove_prefix(kFunctionsPrefix.size());
  auto object = arguments_object(*json);
  if (!object || !is_function_name(name)) return std::nullopt;
  call.name = name;
  call.arguments = *std::move(object);
  return call;
}

std::optional<ToolCall> take_mistral(Cursor& c) {
  ToolCall call;
  const size_t name_end = std::min(c.rest().find_first_of("[{"), c.rest().size());
  call.name = trimmed(c.rest().substr(0, name_end));
  c.pos += name_end;
  if (c.skip("[CALL_ID]")) {
    const size_t id_end = std::min(c.rest().find_first_of("[{"), c.rest().size());
    call.id = trimmed(c.rest().substr(0, id_end));
    c.pos += id_end;
  }
  c.skip("[ARGS]");
  const auto json = is_function_name(call.name) ? take_json(c) : std::nullopt;
  auto object = json && json->starts_with('{') ? arguments_object(*json) : std::nullopt;
  if (!object) return std::nullopt;
  call.arguments = *std::move(object);
  return call;
}

}  // namespace

std::optional<Calls> parse_hermes_calls(std::string_view text) {
  Calls out;
  Cursor c{text};
  while (const auto before = c.until(kHermes.open)) {
    out.add_text(*before);
    const auto json = take_json(c);
    auto call = json ? call_object(*json, true) : std::nullopt;
    if (!call) return std::nullopt;
    call->id.clear();
    out.add_call(*std::move(call));
    c.skip_space();
    if (!c.skip(kHermes.close) && !c.done()) return std::nullopt;
  }
  out.add_text(c.rest());
  return out;
}

std::optional<Calls> parse_deepseek_calls(std::string_view text) { return parse_sections(text, kDeepSeek, kDeepSeekCall, take_deepseek); }

std::optional<Calls> parse_kimi_calls(std::string_view text) { return parse_sections(text, kKimi, kKimiCall, take_kimi); }

std::optional<Calls> parse_mistral_calls(std::string_view text) {
  Calls out;
  Cursor c{text};
  while (const auto before = c.until(kMistral)) {
    out.add_text(*before);
    c.skip_again(kMistral);
    c.skip_space();
    if (!c.at("[")) {
      auto call = take_mistral(c);
      if (!call) return std::nullopt;
      out.add_call(*std::move(call));
      continue;
    }
    const auto json = take_json(c);
    if (!json || trimmed(json->substr(1, json->size() - 2)).empty()) return std::nullopt;
    for (const std::string_view element : json_elements(*json)) {
      auto call = call_object(element, false);
      if (!call) return std::nullopt;
      out.add_call(*std::move(call));
    }
  }
  out.add_text(c.rest());
  return out;
}

}  // namespace moegen
