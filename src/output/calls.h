#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "moegen/request.h"
#include "output/typed_value.h"

namespace moegen {

/// The calls in a text, and what stands beside them. Without a call the content is the whole text.
struct Calls {
  std::string content;
  std::vector<ToolCall> calls;  ///< ids only where the model wrote them
  bool at_end = false;          ///< nothing follows the last call

  /// Text beside calls: white space between them is the format's own.
  void add_text(std::string_view text);
  void add_call(ToolCall call);
};

// One function a format. Nothing comes back for a text that is malformed: one faulty call makes all of it plain text, so
// that nothing is lost and nobody acts on half of what the model meant. Linear in the text; they do not throw.

/// <tool_call>{"name": .., "arguments": {..}}</tool_call>, the last closing tag may be missing.
std::optional<Calls> parse_hermes_calls(std::string_view text);
/// The calls of DeepSeek V3, R1 and V3.1; which of the two ways a call is written shows behind its separator.
std::optional<Calls> parse_deepseek_calls(std::string_view text);
/// <|tool_calls_section_begin|> .. with the model's own ids, functions.NAME:0.
std::optional<Calls> parse_kimi_calls(std::string_view text);
/// [TOOL_CALLS][{..}, ..] and [TOOL_CALLS]NAME[CALL_ID]ID[ARGS]{..}[TOOL_CALLS]...
std::optional<Calls> parse_mistral_calls(std::string_view text);
std::optional<Calls> parse_qwen_coder_calls(std::string_view text, const ToolSchemas& schemas);
std::optional<Calls> parse_glm_calls(std::string_view text, const ToolSchemas& schemas);
std::optional<Calls> parse_minimax_calls(std::string_view text, const ToolSchemas& schemas);

/// What gpt-oss and Kimi write before the name of a function.
inline constexpr std::string_view kFunctionsPrefix = "functions.";

/// The name of a function that stands between marks: not empty, without white space, brackets and quotes.
bool is_function_name(std::string_view name);

/// The arguments of a call, a JSON object, from the JSON of a value: the object itself or a string that holds it; null
/// means no arguments.
std::optional<std::string> arguments_object(std::string_view json);

/// Gives every call without an id one of its own: a function of `key` and of its place among the calls.
void assign_call_ids(std::vector<ToolCall>& calls, uint64_t key, bool mistral);

}  // namespace moegen
