#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "moegen/request.h"
#include "output/output_format.h"
#include "output/reasoning.h"

namespace moegen {

/// What decides, beside its text, how an answer is read.
struct OutputContext {
  OutputFormat format = OutputFormat::none;
  Thinking thinking = Thinking::unsaid;  ///< how the prompt ended
  bool with_calls = true;                ///< false: calls stay in the content as they are
  bool one_call = false;                 ///< of several calls only the first is given, as in vLLM without parallel_tool_calls
  nlohmann::json tools;                  ///< the request's, for the types of values between tags; may be null
};

struct ParsedOutput {
  std::optional<std::string> reasoning;
  std::string content;
  std::vector<ToolCall> tool_calls;
  bool plain = true;  ///< nothing was found: the content is the text
};

/// How the reasoning at the begin of an answer is marked, for those who have to know while it is written.
struct ReasoningSpan {
  std::string_view open;  ///< empty: it is open from the first token on
  std::string_view close;
  std::string_view then;  ///< where not empty, the answer begins behind the next of these only
};

/// nullopt: none is to come.
std::optional<ReasoningSpan> reasoning_span(OutputFormat format, Thinking thinking);

/// Splits an answer, special tokens included, into reasoning, content and calls. Pure, may be called from many threads, linear
/// in the text. Calls that are malformed stay in the content, with all that stands beside them; nothing is thrown for a text.
ParsedOutput parse_output(const OutputContext& context, std::string_view text);

}  // namespace moegen
