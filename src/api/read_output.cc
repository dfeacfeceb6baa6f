#include "api/read_output.h"

#include <utility>

#include "output/calls.h"

namespace moegen {
namespace {

void erase_all(std::string& text, const std::string& what) {
  size_t at = text.find(what);
  if (at == std::string::npos) return;
  std::string out;
  size_t from = 0;
  for (; at != std::string::npos; at = text.find(what, from)) {
    out.append(text, from, at - from);
    from = at + what.size();
  }
  text = out.append(text, from);
}

}  // namespace

void read_output(const OutputContext& context, const OutputText& text, uint64_t prompt_key, Choice& choice) {
  ParsedOutput parsed = parse_output(context, text.text_with_hidden());
  if (parsed.plain) return;
  for (const std::string& token : text.hidden_tokens()) {
    erase_all(parsed.content, token);
    if (parsed.reasoning) erase_all(*parsed.reasoning, token);
  }
  uint64_t key = prompt_key;
  for (const TokenId id : choice.token_ids) key = (key ^ static_cast<uint64_t>(id)) * 0x100000001b3U;
  assign_call_ids(parsed.tool_calls, key + static_cast<uint64_t>(choice.index), context.format == OutputFormat::mistral);
  choice.text = std::move(parsed.content);
  choice.reasoning_content = std::move(parsed.reasoning);
  choice.tool_calls = std::move(parsed.tool_calls);
  if (!choice.tool_calls.empty() && choice.finish_reason == FinishReason::stop) choice.finish_reason = FinishReason::tool_calls;
}

}  // namespace moegen
