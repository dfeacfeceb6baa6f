#include "batch/answer.h"

#include <fmt/format.h>

#include <utility>

#include "batch/ledger.h"
#include "batch/logprobs_json.h"
#include "batch/refusal.h"

namespace moegen {
namespace {

using Json = nlohmann::ordered_json;

std::string dump_line(const Json& line) { return line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

Json response(const Key& key, int status, Json body) {
  return {{"status_code", status}, {"request_id", "req_" + key_text(key)}, {"body", std::move(body)}};
}

Json line(const Key& key, Json custom_id, Json response, Json error) {
  return {{"id", answer_id(key)}, {"custom_id", std::move(custom_id)}, {"response", std::move(response)}, {"error", std::move(error)}};
}

Json stop_reason(const Choice& choice) {
  if (const auto* text = std::get_if<std::string>(&choice.stop_reason)) return *text;
  if (const auto* id = std::get_if<TokenId>(&choice.stop_reason)) return *id;
  return nullptr;
}

Json usage(const Completion& completion) {
  size_t prompt = 0;
  size_t generated = 0;
  for (const PromptResult& result : completion.prompts) prompt += result.token_ids.size();
  for (const Choice& choice : completion.choices) generated += choice.token_ids.size();
  return {{"prompt_tokens", prompt}, {"completion_tokens", generated}, {"total_tokens", prompt + generated}};
}

// The prompt of a choice: choices of prompt p are p*n .. p*n + n-1.
size_t prompt_idx(const Completion& completion, const Choice& choice) {
  const size_t n = completion.choices.size() / completion.prompts.size();
  return static_cast<size_t>(choice.index) / n;
}

Json message(const Choice& choice) {
  Json out = {{"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}};
  if (choice.reasoning_content) out["reasoning_content"] = *choice.reasoning_content;
  if (choice.tool_calls.empty()) return out;
  if (choice.text.empty()) out["content"] = nullptr;
  Json& calls = out["tool_calls"] = Json::array();
  for (const ToolCall& call : choice.tool_calls) {
    calls.push_back({{"id", call.id}, {"type", "function"}, {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
  }
  return out;
}

const char* finish_reason(const Choice& choice) {
  if (choice.finish_reason == FinishReason::length) return "length";
  return choice.finish_reason == FinishReason::tool_calls ? "tool_calls" : "stop";
}

Json chat_choice(const AnswerPlan& plan, const Choice& choice) {
  Json result = {{"index", choice.index}, {"message", message(choice)}};
  result["logprobs"] = plan.logprobs ? chat_logprobs(choice.logprobs, *plan.logprobs) : Json();
  return result;
}

Json completion_choice(const AnswerPlan& plan, const Completion& completion, const Choice& choice) {
  const size_t at = prompt_idx(completion, choice);
  const PromptResult& prompt = completion.prompts[at];
  std::string text = choice.text;
  if (plan.echo) text.insert(0, at < plan.echo_texts.size() ? plan.echo_texts[at] : prompt.text);
  Json result = {{"index", choice.index}, {"text", std::move(text)}};
  result["logprobs"] = plan.logprobs ? completion_logprobs(plan.echo ? &prompt : nullptr, choice.logprobs, *plan.logprobs) : Json();
  return result;
}

Json choice_json(const AnswerPlan& plan, const Completion& completion, const Choice& choice) {
  const bool chat = plan.endpoint == Endpoint::chat;
  const PromptResult& prompt = completion.prompts[prompt_idx(completion, choice)];
  Json result = chat ? chat_choice(plan, choice) : completion_choice(plan, completion, choice);
  result["finish_reason"] = finish_reason(choice);
  result["stop_reason"] = stop_reason(choice);
  if (plan.prompt_logprobs && !chat) result["prompt_logprobs"] = prompt_logprobs(prompt, *plan.prompt_logprobs);
  if (plan.return_token_ids) {
    result["token_ids"] = choice.token_ids;
    result["prompt_token_ids"] = prompt.token_ids;
  }
  return result;
}

}  // namespace

std::string answer_line(const Key& key, const std::string& custom_id, const AnswerPlan& plan, const Completion& completion, int64_t created) {
  const bool chat = plan.endpoint == Endpoint::chat;
  Json choices = Json::array();
  for (const Choice& choice : completion.choices) choices.push_back(choice_json(plan, completion, choice));
  Json body = {{"id", (chat ? "chatcmpl-" : "cmpl-") + key_text(key)},
               {"object", chat ? "chat.completion" : "text_completion"},
               {"created", created},
               {"model", plan.model},
               {"choices", std::move(choices)},
               {"usage", usage(completion)}};
  if (plan.prompt_logprobs && chat) body["prompt_logprobs"] = prompt_logprobs(completion.prompts.at(0), *plan.prompt_logprobs);
  return dump_line(line(key, custom_id, response(key, 200, std::move(body)), nullptr));
}

std::string refusal_line(const Key& key, const std::optional<std::string>& custom_id, const RequestError& error) {
  Json id = custom_id ? Json(*custom_id) : Json();
  Json param = error.param.empty() ? Json() : Json(error.param);
  if (error.status == kUnreadable) {
    return dump_line(line(key, std::move(id), nullptr, {{"code", error.code}, {"message", error.message}, {"param", std::move(param)}}));
  }
  const char* type = error.status < 500 ? "invalid_request_error" : "server_error";
  Json body = {{"error", {{"message", error.message}, {"type", type}, {"param", std::move(param)}, {"code", error.code}}}};
  return dump_line(line(key, std::move(id), response(key, error.status, std::move(body)), nullptr));
}

}  // namespace moegen
