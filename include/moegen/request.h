#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace moegen {

using TokenId = int32_t;

/// What the generated text has to be.
struct StructuredOutput {
  enum class Kind {
    regex,        ///< `text`: a regular expression that the whole text matches
    choice,       ///< a JSON array of texts: one of them
    json_object,  ///< any JSON object
    json_schema,  ///< JSON that is valid under this schema
  };
  Kind kind = Kind::json_object;
  std::string text;
  std::string param = "structured_outputs";  ///< the field of the request that asked for it, for messages
};

/// Sampling as vLLM's SamplingParams means it. Empty optionals take generation_config.json's value, then vLLM's default.
struct SamplingParams {
  std::optional<double> temperature;         ///< default 1; below 1e-5: greedy
  std::optional<double> top_p;               ///< default 1
  std::optional<int64_t> top_k;              ///< default 0; 0 and -1: off
  std::optional<double> min_p;               ///< default 0
  std::optional<double> repetition_penalty;  ///< default 1; over prompt and generated tokens
  std::optional<int64_t> max_tokens;         ///< default: 16 for texts, the rest of the context for chats
  double presence_penalty = 0;               ///< over generated tokens
  double frequency_penalty = 0;              ///< over generated tokens
  std::optional<uint64_t> seed;
  int64_t min_tokens = 0;  ///< end-of-sequence and stop ids are banned until then
  int n = 1;               ///< choices per prompt
  std::vector<std::string> stop;
  std::vector<TokenId> stop_token_ids;
  std::vector<std::string> bad_words;
  std::optional<std::vector<TokenId>> allowed_token_ids;
  std::map<TokenId, double> logit_bias;
  std::optional<int> logprobs;         ///< k best beside the chosen token
  std::optional<int> prompt_logprobs;  ///< the same for the prompt's tokens
  std::optional<StructuredOutput> structured_output;
  bool ignore_eos = false;
  bool skip_special_tokens = true;
  bool include_stop_str_in_output = false;
};

/// A conversation for the chat template. The members are JSON texts; empty means absent.
struct Chat {
  std::string messages;
  std::string tools;
  std::string documents;
  std::string template_kwargs;
  std::string chat_template;  ///< in place of the checkpoint's, or the name of one of those
  std::string now;            ///< what a template takes for the time, "2027-11-30T23:05:59"; empty: the clock
  bool add_generation_prompt = true;
  bool continue_final_message = false;
  bool parse_tool_calls = true;     ///< false, as for tool_choice "none": calls stay in the text
  bool parallel_tool_calls = true;  ///< false: of several calls the first alone is given
};

/// A conversation of one message, for Chat::messages.
std::string user_message(const std::string& text);

using Prompt = std::variant<std::string, std::vector<TokenId>, Chat>;

struct Request {
  std::string id;
  std::vector<Prompt> prompts;  ///< choices of prompt p are p*n .. p*n + n-1
  SamplingParams sampling;
  bool add_special_tokens = true;  ///< text prompts only; a chat template brings its own
};

/// Why a request was refused: the fields of OpenAI's error object and the HTTP status that goes with them.
struct RequestError {
  std::string code;
  std::string message;
  std::string param;  ///< empty: null
  int status = 400;
};

enum class FinishReason {
  stop,
  length,
  tool_calls,  ///< stop, and the answer has calls
};

/// A call of a tool, from the model's own format.
struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments;  ///< a JSON object
};

struct TokenLogprob {
  TokenId id = 0;
  float logprob = 0;  ///< natural log of the raw distribution
  int64_t rank = 0;   ///< from 1
  std::string text;   ///< the token's bytes, maybe half a character; "token_id:17" without a tokenizer
};

/// One position: the token that stands there, and the k best, best first.
struct PositionLogprobs {
  TokenLogprob token;
  std::vector<TokenLogprob> top;
};

struct PromptResult {
  std::vector<TokenId> token_ids;
  std::string text;                                       ///< decoded with special tokens
  std::string first_token_text;                           ///< what logprobs cannot say; only if these were asked for
  std::vector<std::optional<PositionLogprobs>> logprobs;  ///< one per token, the first empty; only if asked for
};

struct Choice {
  int index = 0;
  std::vector<TokenId> token_ids;                ///< the generated ones, EOS included
  std::string text;                              ///< of a conversation: what is neither reasoning nor a call
  std::optional<std::string> reasoning_content;  ///< conversations only, and the next one
  std::vector<ToolCall> tool_calls;
  FinishReason finish_reason = FinishReason::length;
  std::variant<std::monostate, std::string, TokenId> stop_reason;  ///< the stop string or stop id that ended it
  std::vector<PositionLogprobs> logprobs;                          ///< one per generated token; only if asked for
};

/// The answer to a Request: all choices, or why there are none.
struct Completion {
  std::string id;
  std::optional<RequestError> error;
  std::vector<PromptResult> prompts;
  std::vector<Choice> choices;
};

}  // namespace moegen
