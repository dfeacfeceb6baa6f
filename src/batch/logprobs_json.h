#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "moegen/request.h"

namespace moegen {

/// Log-probabilities in the three forms that clients know. `k` best of each position are shown. -inf becomes -9999, as in
/// vLLM, because JSON has no infinity. Tokens may be part of a character: what is not UTF-8 becomes U+FFFD.

/// {tokens, token_logprobs, top_logprobs, text_offset} of text completions. `prompt` (empty but for echo) comes first; a
/// position without log-probabilities has null. text_offset counts characters. top_logprobs holds the chosen token and the
/// k best; where two have the same text, all but the chosen or better one are called "token_id:17".
nlohmann::ordered_json completion_logprobs(const PromptResult* prompt, const std::vector<PositionLogprobs>& generated, int k);

/// {content: [{token, logprob, bytes, top_logprobs}], refusal} of chats; `bytes` are exact.
nlohmann::ordered_json chat_logprobs(const std::vector<PositionLogprobs>& generated, int k);

/// vLLM's prompt_logprobs: per position null or {id: {logprob, rank, decoded_token}}.
nlohmann::ordered_json prompt_logprobs(const PromptResult& prompt, int k);

/// `bytes` with what is not UTF-8 replaced by U+FFFD.
std::string valid_text(const std::string& bytes);

}  // namespace moegen
