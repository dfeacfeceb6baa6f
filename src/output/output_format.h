#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace moegen {

/// How a model writes its reasoning and its tool calls.
enum class OutputFormat {
  none,
  qwen3,         ///< <think>, <tool_call>{"name": .., "arguments": {..}}</tool_call>
  qwen3_coder,   ///< <tool_call><function=NAME><parameter=KEY>..</parameter></function></tool_call>
  deepseek_r1,   ///< <think>, and the calls of deepseek_v3
  deepseek_v3,   ///< <｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME, the arguments in a fence of Markdown
  deepseek_v31,  ///< <｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{..}
  harmony,       ///< gpt-oss: <|channel|>analysis, commentary to=functions.NAME, final
  glm45,         ///< <tool_call>NAME<arg_key>KEY</arg_key><arg_value>..</arg_value></tool_call>
  minimax_m2,    ///< <minimax:tool_call><invoke name="NAME"><parameter name="KEY">..</parameter></invoke></minimax:tool_call>
  kimi_k2,       ///< <|tool_call_begin|>functions.NAME:0<|tool_call_argument_begin|>{..}<|tool_call_end|>
  mistral,       ///< [TOOL_CALLS][{..}] and [TOOL_CALLS]NAME[ARGS]{..}
};

/// By the names that vLLM's parsers go by ("hermes" is qwen3, "openai" harmony, and so on); "none" is a name too.
std::optional<OutputFormat> format_by_name(std::string_view name);

/// The names that format_by_name knows, for messages.
std::string format_names();

/// The format that a chat template (its source) was made for; none if it shows none.
OutputFormat detect_format(std::string_view chat_template);

}  // namespace moegen
