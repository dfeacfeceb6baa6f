#include "output/parse_output.h"

#include <utility>

#include "output/calls.h"
#include "output/cursor.h"
#include "output/harmony.h"

namespace moegen {
namespace {

constexpr ReasoningMarks kThink{"<think>", "</think>", true};
constexpr ReasoningMarks kHybridThink{"<think>", "</think>", false};  // the prompt says whether the model thinks
constexpr ReasoningMarks kMistralThink{"[THINK]", "[/THINK]", false};

const ReasoningMarks& marks_of(OutputFormat format) {
  if (format == OutputFormat::mistral) return kMistralThink;
  return format == OutputFormat::deepseek_v3 || format == OutputFormat::deepseek_v31 ? kHybridThink : kThink;
}

std::optional<Calls> parse_calls(OutputFormat format, std::string_view text, const ToolSchemas& schemas) {
  switch (format) {
    case OutputFormat::qwen3:
      return parse_hermes_calls(text);
    case OutputFormat::qwen3_coder:
      return parse_qwen_coder_calls(text, schemas);
    case OutputFormat::deepseek_r1:
    case OutputFormat::deepseek_v3:
    case OutputFormat::deepseek_v31:
      return parse_deepseek_calls(text);
    case OutputFormat::glm45:
      return parse_glm_calls(text, schemas);
    case OutputFormat::minimax_m2:
      return parse_minimax_calls(text, schemas);
    case OutputFormat::kimi_k2:
      return parse_kimi_calls(text);
    case OutputFormat::mistral:
      return parse_mistral_calls(text);
    default:
      return std::nullopt;
  }
}

// White space between the content and the calls is the format's.
std::string without_tail(std::string content) {
  if (trimmed(content).empty()) return {};
  content.resize(content.find_last_not_of('\n') + 1);
  return content;
}

std::optional<std::string> unless_empty(std::string text) { return text.empty() ? std::nullopt : std::optional(std::move(text)); }

ParsedOutput plain(std::string_view text) { return {.reasoning = {}, .content = std::string(text), .tool_calls = {}, .plain = true}; }

ParsedOutput parse_channels(const OutputContext& context, std::string_view text) {
  auto found = parse_harmony(text, ToolSchemas(context.tools), context.with_calls);
  if (!found) return plain(text);
  return {.reasoning = unless_empty(std::move(found->reasoning)),
          .content = std::move(found->calls.content),
          .tool_calls = std::move(found->calls.calls),
          .plain = false};
}

ParsedOutput parse_tagged(const OutputContext& context, std::string_view text) {
  const Reasoning split = split_reasoning(text, marks_of(context.format), context.thinking);
  const ToolSchemas schemas(context.tools);
  // A model may call from within its reasoning, without closing it.
  const std::string_view with_calls = split.closed ? split.rest : *split.reasoning;
  auto found = context.with_calls ? parse_calls(context.format, with_calls, schemas) : std::nullopt;
  const bool calls = found && !found->calls.empty() && (split.closed || found->at_end);
  if (!split.reasoning && !calls) return plain(text);
  std::string reasoning(split.reasoning.value_or(""));
  std::string content(split.rest);
  if (calls) (split.closed ? content : reasoning) = without_tail(std::move(found->content));
  return {.reasoning = unless_empty(std::move(reasoning)),
          .content = std::move(content),
          .tool_calls = calls ? std::move(found->calls) : std::vector<ToolCall>{},
          .plain = false};
}

}  // namespace

std::optional<ReasoningSpan> reasoning_span(OutputFormat format, Thinking thinking) {
  if (format == OutputFormat::none || thinking == Thinking::closed) return std::nullopt;
  if (format == OutputFormat::harmony) return ReasoningSpan{"", "<|channel|>final", "<|message|>"};
  const ReasoningMarks& marks = marks_of(format);
  return ReasoningSpan{thinking == Thinking::open ? "" : marks.open, marks.close, ""};
}

ParsedOutput parse_output(const OutputContext& context, std::string_view text) {
  if (context.format == OutputFormat::none) return plain(text);
  try {
    ParsedOutput out = context.format == OutputFormat::harmony ? parse_channels(context, text) : parse_tagged(context, text);
    if (context.one_call && out.tool_calls.size() > 1) out.tool_calls.resize(1);
    return out;
  } catch (const nlohmann::json::exception&) {  // a request's tools of a shape that nobody thought of
    return plain(text);
  }
}

}  // namespace moegen
