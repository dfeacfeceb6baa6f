#include "output/harmony.h"

#include <algorithm>
#include <iterator>

#include "output/cursor.h"

namespace moegen {
namespace {

constexpr std::string_view kStart = "<|start|>";
constexpr std::string_view kChannel = "<|channel|>";
constexpr std::string_view kConstrain = "<|constrain|>";
constexpr std::string_view kMessage = "<|message|>";
constexpr std::string_view kEnds[] = {"<|end|>", "<|call|>", "<|return|>"};

struct Header {
  std::string_view channel, recipient;
};

std::string_view take_word(Cursor& c) {
  c.skip_space();
  const size_t end = std::min(c.text.find_first_of(" \t\n\r<", c.pos), c.text.size());
  const std::string_view word = c.text.substr(c.pos, end - c.pos);
  c.pos = end;
  return word;
}

// Up to the mark of the message. The recipient stands behind the role or behind the channel, the content's type last.
std::optional<Header> parse_header(std::string_view text) {
  Header out;
  bool typed = false;
  Cursor c{text};
  if (c.skip(kStart) && take_word(c) != "assistant") return std::nullopt;
  for (c.skip_space(); !c.done(); c.skip_space()) {
    if (c.skip(kChannel)) {
      if (!out.channel.empty()) return std::nullopt;
      out.channel = take_word(c);
    } else if (c.skip("to=")) {
      if (!out.recipient.empty()) return std::nullopt;
      out.recipient = take_word(c);
    } else {
      c.skip(kConstrain);
      if (typed || out.channel.empty() || take_word(c).empty()) return std::nullopt;
      typed = true;  // json, or code where the model means the same
    }
  }
  const bool known = out.channel == "analysis" || out.channel == "commentary" || out.channel == "final";
  return known ? std::optional(out) : std::nullopt;
}

bool skip_end(Cursor& c) {
  return std::any_of(std::begin(kEnds), std::end(kEnds), [&](std::string_view end) { return c.skip(end); });
}

// The text of a message; the cursor is behind its end, which a model may repeat. Another message may begin without that one has ended.
std::string_view take_body(Cursor& c) {
  const size_t begin = c.pos;
  for (size_t at = begin; (at = c.text.find("<|", at)) != std::string_view::npos; ++at) {
    Cursor here{c.text, at};
    if (!here.at(kStart) && !skip_end(here)) continue;
    while (skip_end(here)) {
    }
    c.pos = here.pos;
    return c.text.substr(begin, at - begin);
  }
  c.pos = c.text.size();
  return c.text.substr(begin);
}

// What comes with the model, by the first part of the recipient's name.
bool is_built_in(std::string_view recipient) {
  const std::string_view first = recipient.substr(0, recipient.find('.'));
  return first == "python" || first == "browser" || first == "container" || recipient == "assistant";
}

void append_line(std::string& to, std::string_view text) {
  if (text.empty()) return;
  if (!to.empty()) to += '\n';
  to += text;
}

// False: a call that is none.
bool add_message(HarmonyOutput& out, const Header& header, std::string_view body, const ToolSchemas& schemas, bool with_calls) {
  const bool prefixed = header.recipient.starts_with(kFunctionsPrefix);
  const std::string_view name = header.recipient.substr(prefixed ? kFunctionsPrefix.size() : 0);
  const bool called = prefixed || schemas.declares(name) || (!name.empty() && !is_built_in(name));
  if (called) {
    if (!with_calls) {
      append_line(out.calls.content, body);
      return true;
    }
    auto arguments = arguments_object(body);
    if (!arguments || !is_function_name(name)) return false;
    out.calls.add_call({.id = {}, .name = std::string(name), .arguments = *std::move(arguments)});
  } else if (header.channel == "analysis" || !header.recipient.empty()) {
    append_line(out.reasoning, body);
  } else {
    append_line(out.calls.content, body);
  }
  return true;
}

}  // namespace

std::optional<HarmonyOutput> parse_harmony(std::string_view text, const ToolSchemas& schemas, bool with_calls) {
  HarmonyOutput out;
  bool any = false;
  Cursor c{text};
  for (c.skip_space(); !c.done(); c.skip_space()) {
    const size_t begin = c.pos;
    const auto header_text = c.until(kMessage);
    if (!header_text) {  // the text ended within a header
      if (!any) return std::nullopt;
      append_line(out.calls.content, text.substr(begin));
      break;
    }
    const auto header = parse_header(*header_text);
    if (!header || !add_message(out, *header, take_body(c), schemas, with_calls)) return std::nullopt;
    any = true;
  }
  return out;
}

}  // namespace moegen
