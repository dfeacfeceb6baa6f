#include "batch/body.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "batch/refusal.h"

namespace moegen {
namespace {

using Json = nlohmann::json;

constexpr int kMaxLogprobs = 20;    // vLLM's default of max_logprobs
constexpr int kMaxChoices = 16384;  // vLLM's default; the engine refuses what its memory cannot hold
constexpr size_t kMaxStops = 16;
constexpr size_t kMaxBadWords = 1024;
constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max();

constexpr DecimalRange kTopP{.min = 0, .max = 1, .above_min = true};
constexpr DecimalRange kMinP{.min = 0, .max = 1};
constexpr DecimalRange kPenalty{.min = -2, .max = 2};

constexpr unsigned kText = 1;
constexpr unsigned kChat = 2;
constexpr unsigned kBoth = kText | kChat;
constexpr unsigned kRequired = 4;

struct Rule {
  std::string_view name;
  unsigned where;
  void (*read)(const Field&, Body&);
};

void no_effect(const Field&, Body&) {}

[[noreturn]] void unsupported(const Field& field, Body&) {
  refuse("unsupported_parameter", field.name, "'{}' is known but not supported here", field.name);
}

// Only the value that means what happens anyway.
template <bool only>
void only_bool(const Field& field, Body&) {
  if (field.boolean() != only) refuse("unsupported_value", field.name, "'{}' can only be {} here", field.name, only);
}

void only_one(const Field& field, Body&) {
  if (field.decimal({}) != 1) refuse("unsupported_value", field.name, "'{}' can only be 1 here", field.name);
}

void read_model(const Field& field, Body& body) {
  const std::string& name = field.text();
  if (name != "default" && std::find(body.models.begin(), body.models.end(), name) == body.models.end()) {
    throw Refusal{{"model_not_found", fmt::format("there is no model '{}' here; it is '{}'", name, body.models.front()), "model", 404}};
  }
  body.result.answer.model = name;
}

void read_logprobs(const Field& field, Body& body) {
  if (body.endpoint == Endpoint::chat) {
    body.chat_logprobs = field.boolean();
  } else {
    body.result.answer.logprobs = static_cast<int>(field.integer(0, kMaxLogprobs));
  }
}

void read_max_tokens(const Field& field, Body& body) {
  const bool newer = field.name == "max_completion_tokens";
  if (!newer && body.max_completion_tokens) return;
  body.max_completion_tokens = newer;
  body.result.request.sampling.max_tokens = field.integer(0, kMaxTokens);
}

void read_logit_bias(const Field& field, Body& body) {
  for (const auto& [key, value] : field.object().items()) {
    TokenId id = -1;
    const char* end = key.data() + key.size();
    if (std::from_chars(key.data(), end, id).ptr != end || id < 0) refuse("invalid_value", field.name, "'{}': '{}' is no token id", field.name, key);
    body.result.request.sampling.logit_bias[id] = Field{field.name, value}.decimal({-100, 100});
  }
}

void read_tool_choice(const Field& field, Body& body) {
  body.chat.parse_tool_calls = field.value != "none";
  if (field.value == "none" || field.value == "auto") return;
  field.require(field.value.is_string() || field.value.is_object(), "a string or an object");
  refuse("unsupported_value", field.name, "'tool_choice' can only be 'none' or 'auto' here: no call is forced");
}

void read_modalities(const Field& field, Body&) {
  if (field.list() != Json::array({"text"})) refuse("unsupported_value", field.name, "'modalities' can only be [\"text\"] here");
}

SamplingParams& sampling(Body& body) { return body.result.request.sampling; }

constexpr Rule kRules[] = {
    {"model", kBoth, read_model},
    {"prompt", kText | kRequired, read_prompt},
    {"messages", kChat | kRequired, read_messages},
    {"tools", kChat, read_tools},
    {"tool_choice", kChat, read_tool_choice},
    {"documents", kChat, read_documents},
    {"chat_template_kwargs", kChat, read_template_kwargs},
    {"chat_template", kChat, [](const Field& f, Body& b) { b.chat.chat_template = f.text(); }},
    {"add_generation_prompt", kChat, [](const Field& f, Body& b) { b.chat.add_generation_prompt = f.boolean(); }},
    {"continue_final_message", kChat, [](const Field& f, Body& b) { b.chat.continue_final_message = f.boolean(); }},
    {"add_special_tokens", kText, [](const Field& f, Body& b) { b.result.request.add_special_tokens = f.boolean(); }},
    {"add_special_tokens", kChat, only_bool<false>},
    {"max_tokens", kBoth, read_max_tokens},
    {"max_completion_tokens", kChat, read_max_tokens},
    {"min_tokens", kBoth, [](const Field& f, Body& b) { sampling(b).min_tokens = f.integer(0, kMaxTokens); }},
    {"temperature", kBoth, [](const Field& f, Body& b) { sampling(b).temperature = f.decimal({.min = 0}); }},
    {"top_p", kBoth, [](const Field& f, Body& b) { sampling(b).top_p = f.decimal(kTopP); }},
    {"top_k", kBoth, [](const Field& f, Body& b) { sampling(b).top_k = f.integer(-1, kMaxTokens); }},
    {"min_p", kBoth, [](const Field& f, Body& b) { sampling(b).min_p = f.decimal(kMinP); }},
    {"presence_penalty", kBoth, [](const Field& f, Body& b) { sampling(b).presence_penalty = f.decimal(kPenalty); }},
    {"frequency_penalty", kBoth, [](const Field& f, Body& b) { sampling(b).frequency_penalty = f.decimal(kPenalty); }},
    {"repetition_penalty", kBoth, [](const Field& f, Body& b) { sampling(b).repetition_penalty = f.decimal({.min = 0, .above_min = true}); }},
    {"seed", kBoth, [](const Field& f, Body& b) { sampling(b).seed = f.seed(); }},
    {"n", kBoth, [](const Field& f, Body& b) { sampling(b).n = static_cast<int>(f.integer(1, kMaxChoices)); }},
    {"best_of", kBoth, only_one},
    {"stop", kBoth, [](const Field& f, Body& b) { sampling(b).stop = f.texts(kMaxStops, true); }},
    {"stop_token_ids", kBoth, [](const Field& f, Body& b) { sampling(b).stop_token_ids = f.ids(); }},
    {"bad_words", kBoth, [](const Field& f, Body& b) { sampling(b).bad_words = f.texts(kMaxBadWords, false); }},
    {"allowed_token_ids", kBoth, [](const Field& f, Body& b) { sampling(b).allowed_token_ids = (f.list(), f.ids()); }},
    {"logit_bias", kBoth, read_logit_bias},
    {"ignore_eos", kBoth, [](const Field& f, Body& b) { sampling(b).ignore_eos = f.boolean(); }},
    {"skip_special_tokens", kBoth, [](const Field& f, Body& b) { sampling(b).skip_special_tokens = f.boolean(); }},
    {"include_stop_str_in_output", kBoth, [](const Field& f, Body& b) { sampling(b).include_stop_str_in_output = f.boolean(); }},
    {"logprobs", kBoth, read_logprobs},
    {"top_logprobs", kChat, [](const Field& f, Body& b) { b.top_logprobs = static_cast<int>(f.integer(0, kMaxLogprobs)); }},
    {"prompt_logprobs", kBoth, [](const Field& f, Body& b) { b.result.answer.prompt_logprobs = static_cast<int>(f.integer(0, kMaxLogprobs)); }},
    {"return_token_ids", kBoth, [](const Field& f, Body& b) { b.result.answer.return_token_ids = f.boolean(); }},
    {"echo", kText, [](const Field& f, Body& b) { b.result.answer.echo = f.boolean(); }},
    {"echo", kChat, only_bool<false>},
    {"response_format", kBoth, read_response_format},
    {"structured_outputs", kBoth, read_structured_outputs},
    {"stream", kBoth, only_bool<false>},
    {"use_beam_search", kBoth, only_bool<false>},
    {"spaces_between_special_tokens", kBoth, only_bool<true>},
    {"length_penalty", kBoth, only_one},
    {"modalities", kChat, read_modalities},
    {"parallel_tool_calls", kChat, [](const Field& f, Body& b) { b.chat.parallel_tool_calls = f.boolean(); }},
    // Accepted: they say something to a hosted service and change no answer.
    {"user", kBoth, no_effect},
    {"metadata", kBoth, no_effect},
    {"store", kBoth, no_effect},
    {"service_tier", kBoth, no_effect},
    {"safety_identifier", kBoth, no_effect},
    {"prompt_cache_key", kBoth, no_effect},
    {"prompt_cache_retention", kBoth, no_effect},
    {"request_id", kBoth, no_effect},
    {"cache_salt", kBoth, no_effect},
    // Known, and refused by name.
    {"suffix", kText, unsupported},
    {"prompt_embeds", kText, unsupported},
    {"functions", kChat, unsupported},
    {"function_call", kChat, unsupported},
    {"audio", kChat, unsupported},
    {"prediction", kChat, unsupported},
    {"web_search_options", kChat, unsupported},
    {"reasoning_effort", kChat, unsupported},
    {"include_reasoning", kChat, unsupported},
    {"verbosity", kChat, unsupported},
    {"stream_options", kBoth, unsupported},
    {"truncate_prompt_tokens", kBoth, unsupported},
    {"structural_tag", kBoth, unsupported},
    {"guided_json", kBoth, unsupported},
    {"guided_regex", kBoth, unsupported},
    {"guided_choice", kBoth, unsupported},
    {"guided_grammar", kBoth, unsupported},
    {"guided_decoding_backend", kBoth, unsupported},
    {"guided_whitespace_pattern", kBoth, unsupported},
    {"logits_processors", kBoth, unsupported},
    {"mm_processor_kwargs", kBoth, unsupported},
    {"kv_transfer_params", kBoth, unsupported},
    {"vllm_xargs", kBoth, unsupported},
    {"return_tokens_as_token_ids", kBoth, unsupported},
    {"early_stopping", kBoth, unsupported},
    {"thinking_token_budget", kBoth, unsupported},
    {"repetition_detection", kBoth, unsupported},
    {"priority", kBoth, unsupported},
};

const Rule& find_rule(std::string_view name, unsigned where) {
  const Rule* elsewhere = nullptr;
  for (const Rule& rule : kRules) {
    if (rule.name != name) continue;
    if ((rule.where & where) != 0) return rule;
    elsewhere = &rule;
  }
  if (elsewhere != nullptr) refuse("unknown_parameter", name, "'{}' is not a parameter of this url", name);
  refuse("unknown_parameter", name, "there is no parameter '{}'", name);
}

void check_chat(Body& body) {
  AnswerPlan& answer = body.result.answer;
  if (body.top_logprobs.value_or(0) > 0 && !body.chat_logprobs) refuse("invalid_value", "top_logprobs", "'top_logprobs' needs 'logprobs' to be true");
  if (body.chat_logprobs) answer.logprobs = body.top_logprobs.value_or(0);
  if (body.chat.continue_final_message && body.chat.add_generation_prompt) {
    refuse("invalid_value", "continue_final_message", "'continue_final_message' needs 'add_generation_prompt' to be false");
  }
  body.result.request.prompts.emplace_back(std::move(body.chat));
}

void check_together(Body& body) {
  const AnswerPlan& answer = body.result.answer;
  SamplingParams& params = sampling(body);
  const std::string_view max_name = body.max_completion_tokens ? "max_completion_tokens" : "max_tokens";
  if (params.max_tokens == 0 && !answer.echo && !answer.prompt_logprobs) {  // 0: to score a prompt
    refuse("integer_below_min_value", max_name, "'{}' has to be at least 1, or 0 with 'echo' or 'prompt_logprobs'", max_name);
  }
  if (params.max_tokens && params.min_tokens > *params.max_tokens) refuse("invalid_value", "min_tokens", "'min_tokens' is above '{}'", max_name);
  params.logprobs = answer.logprobs;
  params.prompt_logprobs = answer.prompt_logprobs;
  if (answer.echo && answer.logprobs) params.prompt_logprobs = std::max(*answer.logprobs, answer.prompt_logprobs.value_or(0));
}

}  // namespace

void read_body(const Json& json, Body& body) {
  const unsigned where = body.endpoint == Endpoint::chat ? kChat : kText;
  body.result.answer.endpoint = body.endpoint;
  body.result.answer.model = body.models.front();
  for (const auto& [name, value] : json.items()) {
    const Rule& rule = find_rule(name, where);
    if (!value.is_null() || (rule.where & kRequired) != 0) rule.read(Field{rule.name, value}, body);
  }
  for (const Rule& rule : kRules) {
    if ((rule.where & kRequired) != 0 && (rule.where & where) != 0 && !json.contains(rule.name)) {
      refuse("missing_required_parameter", rule.name, "'{}' is missing", rule.name);
    }
  }
  if (body.endpoint == Endpoint::chat) check_chat(body);
  check_together(body);
  if (body.result.answer.echo) {
    for (const Prompt& prompt : body.result.request.prompts) {
      if (const auto* text = std::get_if<std::string>(&prompt)) body.result.answer.echo_texts.push_back(*text);
    }
  }
}

}  // namespace moegen
