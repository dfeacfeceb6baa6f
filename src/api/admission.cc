#include "api/admission.h"

#include <algorithm>

#include "api/model_texts.h"
#include "base/error.h"
#include "base/json.h"
#include "base/size.h"
#include "engine/sampler.h"

namespace moegen {
namespace {

template <typename... Args>
[[noreturn]] void refuse(const char* code, const char* param, fmt::format_string<Args...> text, Args&&... args) {
  throw Refused{{code, fmt::format(text, std::forward<Args>(args)...), param, 400}};
}

const char* param_of(const Prompt& prompt) { return std::holds_alternative<Chat>(prompt) ? "messages" : "prompt"; }

constexpr uint32_t kCpuShareStream = 0xFFFFFFFFU;  // of uniform(): no choice's

// FNV-1a, 64 bits: a seed for requests that bring none, from what they are and not from where they stand.
uint64_t hash_bytes(uint64_t hash, const void* data, size_t bytes) {
  const auto* p = static_cast<const unsigned char*>(data);
  for (size_t i = 0; i < bytes; ++i) hash = (hash ^ p[i]) * 0x100000001b3U;
  return hash;
}

uint64_t own_seed(uint64_t run_seed, const Request& request, const std::vector<PromptResult>& prompts) {
  uint64_t hash = hash_bytes(0xcbf29ce484222325U, &run_seed, sizeof(run_seed));
  hash = hash_bytes(hash, request.id.data(), request.id.size());
  for (const PromptResult& p : prompts) hash = hash_bytes(hash, p.token_ids.data(), p.token_ids.size() * sizeof(TokenId));
  return hash;
}

LogprobTable table_for(const std::optional<int>& wanted) {
  LogprobTable out;
  if (wanted) out.per_position = 1 + *wanted;
  return out;
}

}  // namespace

Admission::Admission(const LoadedModel& model, uint64_t seed, int64_t capacity, uint64_t answer_bytes)
    : model_(model), seed_(seed), capacity_(capacity), answer_bytes_(answer_bytes) {
  if (model.tokenizer) grammars_.emplace(*model.tokenizer, model.spec.vocab);
}

std::string Admission::render(const Chat& chat) const {
  if (!model_.chat_template) refuse("unsupported_value", "messages", "conversations need a tokenizer, and this run has none (--skip-tokenizer-init)");
  if (!model_.chat_template->has_template() && chat.chat_template.empty()) {
    refuse("unsupported_value", "messages",
           "this checkpoint has no chat template: send /v1/completions with a prompt, or chat_template in the request");
  }
  try {
    return model_.chat_template->render(chat_request(chat));
  } catch (const Error& e) {
    refuse("invalid_chat", "messages", "the chat template refuses the conversation: {}", e.what());
  }
}

// As in OpenAI's API, there are no calls without tools.
OutputContext Admission::output_context(const Chat& chat, std::string_view rendered) const {
  OutputContext out;
  const bool with_tools = !chat.tools.empty();
  const std::string_view source = model_.chat_template->source(chat.chat_template, with_tools);
  out.format = model_.output_format ? *model_.output_format : detect_format(source);
  if (out.format == OutputFormat::none) return out;
  out.thinking = thinking_of_prompt(rendered, chat.continue_final_message);
  out.with_calls = with_tools && chat.parse_tool_calls;
  out.one_call = !chat.parallel_tool_calls;
  if (out.with_calls) out.tools = parse_json(chat.tools, "tools");
  return out;
}

// What may come before what a grammar applies to; null for nothing, or where the vocabulary does not have the marks.
std::shared_ptr<const ReasoningTokens> Admission::reasoning_tokens(const OutputContext& output) const {
  const auto span = reasoning_span(output.format, output.thinking);
  if (!span) return nullptr;
  const Tokenizer& tokenizer = *model_.tokenizer;
  const auto added = [&](std::string_view mark) {
    const auto id = tokenizer.id_of(mark);
    return id && tokenizer.is_added(*id) ? *id : -1;
  };
  auto out = std::make_shared<ReasoningTokens>();
  out->open = added(span->open);
  out->then = added(span->then);
  out->close = tokenizer.encode(span->close, {.add_special_tokens = false});
  const bool known = (span->open.empty() || out->open >= 0) && (span->then.empty() || out->then >= 0) && tokenizer.is_added(out->close[0]);
  return known ? out : nullptr;
}

std::vector<TokenId> Admission::to_ids(const Prompt& prompt, const Request& request, std::string& text) const {
  if (const auto* ids = std::get_if<std::vector<TokenId>>(&prompt)) {
    check_ids(*ids, "prompt");
    if (model_.tokenizer) text = model_.tokenizer->decode(*ids, false);
    return *ids;
  }
  if (const auto* chat = std::get_if<Chat>(&prompt)) {
    text = render(*chat);
    return model_.tokenizer->encode(text, {.add_special_tokens = false, .parse_special = true});
  }
  if (!model_.tokenizer)
    refuse("unsupported_value", "prompt", "a text prompt needs a tokenizer, and this run has none (--skip-tokenizer-init): send token ids");
  text = std::get<std::string>(prompt);
  return model_.tokenizer->encode(text, {.add_special_tokens = request.add_special_tokens, .parse_special = true});
}

void Admission::check_ids(const std::vector<TokenId>& ids, const char* param) const {
  for (const TokenId id : ids) {
    if (id < 0 || id >= model_.spec.vocab) refuse("invalid_value", param, "token id {} is not in the vocabulary of {}", id, model_.spec.vocab);
  }
}

void Admission::check_length(const std::vector<TokenId>& ids, const Sampling& sampling, const char* param) const {
  const auto length = static_cast<int64_t>(ids.size());
  if (length == 0) refuse("invalid_value", param, "the prompt has no tokens");
  if (length + (sampling.max_tokens > 0 ? 1 : 0) > model_.plan.max_model_len) {
    refuse("context_length_exceeded", param, "the prompt has {} tokens, the context {}: there is no room for an answer", length,
           model_.plan.max_model_len);
  }
  if (length > capacity_) {
    refuse("context_length_exceeded", param,
           "the prompt has {} tokens, but the KV pages of this run hold {}: give it more --kv-memory or --host-memory", length, capacity_);
  }
}

// A word is banned as it stands and behind a space. vLLM bans the second form only where both have as many tokens, which lets
// most words through behind a space; nobody who bans a word means that.
std::vector<std::vector<TokenId>> Admission::bad_words(const std::vector<std::string>& words) const {
  std::vector<std::vector<TokenId>> out;
  if (!words.empty() && !model_.tokenizer)
    refuse("unsupported_value", "bad_words", "words need a tokenizer, and this run has none (--skip-tokenizer-init)");
  for (const std::string& word : words) {
    const std::string bare = word.substr(std::min(word.size(), word.find_first_not_of(' ')));
    auto plain = model_.tokenizer->encode(bare, {.add_special_tokens = false});
    auto spaced = model_.tokenizer->encode(" " + bare, {.add_special_tokens = false});
    if (plain.empty()) refuse("invalid_value", "bad_words", "the word \"{}\" has no tokens", word);
    const bool another = spaced != plain;
    out.push_back(std::move(plain));
    if (another) out.push_back(std::move(spaced));
  }
  return out;
}

Sampling Admission::resolve(const Request& request) const {
  const SamplingParams& p = request.sampling;
  const GenerationDefaults& d = model_.defaults;
  Sampling s;
  s.temperature = p.temperature.value_or(d.temperature.value_or(1));
  s.temperature = s.temperature < 1e-5 ? 0 : std::max(s.temperature, 1e-2);  // as vLLM: tiny ones would overflow
  s.top_p = p.top_p.value_or(d.top_p.value_or(1));
  s.top_k = std::max<int64_t>(0, p.top_k.value_or(d.top_k.value_or(0)));
  s.min_p = p.min_p.value_or(d.min_p.value_or(0));
  s.repetition_penalty = p.repetition_penalty.value_or(d.repetition_penalty.value_or(1));
  s.presence_penalty = p.presence_penalty;
  s.frequency_penalty = p.frequency_penalty;
  s.min_tokens = p.min_tokens;
  s.max_len = model_.plan.max_model_len;
  const bool chat = !request.prompts.empty() && std::holds_alternative<Chat>(request.prompts[0]);
  s.max_tokens = p.max_tokens.value_or(d.max_new_tokens.value_or(chat ? s.max_len : 16));
  if (!p.ignore_eos) s.end_ids = model_.end_ids;
  std::erase_if(s.end_ids, [&](TokenId id) { return id < 0 || id >= model_.spec.vocab; });
  check_ids(p.stop_token_ids, "stop_token_ids");
  s.stop_ids = p.stop_token_ids;
  if (p.allowed_token_ids) {
    check_ids(*p.allowed_token_ids, "allowed_token_ids");
    s.allowed = *p.allowed_token_ids;
  }
  for (const auto& [id, bias] : p.logit_bias) {
    check_ids({id}, "logit_bias");
    s.logit_bias.emplace_back(id, static_cast<float>(bias));
  }
  if (!p.stop.empty() && !model_.tokenizer)
    refuse("unsupported_value", "stop", "stop strings need a tokenizer, and this run has none: use stop_token_ids");
  s.bad_words = bad_words(p.bad_words);
  s.logprobs = p.logprobs;
  s.prompt_logprobs = p.prompt_logprobs;
  return s;
}

// What the parameters say together, once defaults are filled in.
void Admission::check_counts(const Sampling& s) const {
  if (s.min_tokens > s.max_tokens) refuse("invalid_value", "min_tokens", "min_tokens {} is above max_tokens {}", s.min_tokens, s.max_tokens);
  for (const auto& [name, wanted] : {std::pair("logprobs", s.logprobs), std::pair("prompt_logprobs", s.prompt_logprobs)}) {
    if (wanted && (*wanted < 0 || *wanted > model_.spec.vocab)) refuse("invalid_value", name, "{} is not from 0 to {}", *wanted, model_.spec.vocab);
  }
}

// Log-probabilities are what makes answers large: 12 bytes an entry in the engine, then a text and a place in the answer, then
// JSON. Answers rarely use the whole of max_tokens, so of that only so many tokens are charged in advance.
void Admission::charge(Admitted& admitted) const {
  constexpr uint64_t kHeldBytes = 96, kWrittenBytes = 600, kExpectedTokens = 1024;
  const Sampling& s = *admitted.first;
  const auto width = [](const std::optional<int>& k) { return k ? 1 + static_cast<uint64_t>(*k) : 0; };
  const uint64_t new_tokens = std::min<uint64_t>(static_cast<uint64_t>(s.max_tokens), kExpectedTokens);
  uint64_t entries = admitted.num_sequences() * new_tokens * width(s.logprobs);
  uint64_t bytes = admitted.choices_per_prompt > 1 || admitted.prompts.size() > 1 ? admitted.num_sequences() * (new_tokens * 8 + 256) : 0;
  for (const PromptResult& p : admitted.prompts) {
    entries += p.token_ids.size() * width(s.prompt_logprobs);
    bytes += p.token_ids.size() * sizeof(TokenId) + 2 * p.text.size();
  }
  admitted.held_bytes = bytes + entries * kHeldBytes;
  admitted.peak_bytes = 2 * bytes + entries * kWrittenBytes;
  if (admitted.held_bytes + admitted.peak_bytes <= answer_bytes_) return;
  refuse("answer_too_large",
         s.prompt_logprobs ? "prompt_logprobs"
         : s.logprobs      ? "logprobs"
                           : "n",
         "the answer may take {} in memory, this run has {} for answers: ask for less, in several requests, or give it more --host-memory",
         format_bytes(admitted.held_bytes + admitted.peak_bytes), format_bytes(answer_bytes_));
}

std::shared_ptr<Grammar> Admission::compile(const SamplingParams& params) {
  const StructuredOutput& wanted = *params.structured_output;
  const char* param = wanted.param.c_str();
  if (!grammars_) refuse("unsupported_value", param, "'{}' needs a tokenizer, and this run has none (--skip-tokenizer-init)", param);
  if (params.allowed_token_ids) refuse("unsupported_value", "allowed_token_ids", "'allowed_token_ids' beside '{}' is not supported", param);
  try {
    return grammars_->compile(wanted);
  } catch (const Error& e) {
    refuse(e.code() == ErrorCode::unsupported ? "unsupported_value" : "invalid_value", param, "'{}': {}", param, e.what());
  }
}

Admitted Admission::admit(const Request& request) {
  constexpr int64_t kMaxSequences = 16384;  // as vLLM's cap on n
  Admitted out;
  const int64_t sequences = static_cast<int64_t>(request.prompts.size()) * request.sampling.n;
  if (sequences < 1 || sequences > kMaxSequences)
    refuse("invalid_value", "n", "{} prompts of {} choices: 1 to {} in all are possible", request.prompts.size(), request.sampling.n, kMaxSequences);
  Sampling sampling = resolve(request);
  check_counts(sampling);
  if (request.sampling.structured_output) out.grammar = compile(request.sampling);
  for (const Prompt& prompt : request.prompts) {
    PromptResult& result = out.prompts.emplace_back();
    result.token_ids = to_ids(prompt, request, result.text);
    check_length(result.token_ids, sampling, param_of(prompt));
    const auto* chat = std::get_if<Chat>(&prompt);
    out.output.push_back(chat != nullptr ? output_context(*chat, result.text) : OutputContext{});
    if (out.grammar) out.reasoning.push_back(reasoning_tokens(out.output.back()));
  }
  out.hash = own_seed(seed_, request, out.prompts);
  sampling.seed = request.sampling.seed.value_or(out.hash);
  out.first = std::make_shared<Sampling>(sampling);
  sampling.prompt_logprobs.reset();
  out.further = std::make_shared<Sampling>(sampling);
  out.choices_per_prompt = request.sampling.n;
  charge(out);
  return out;
}

std::unique_ptr<Sequence> Admission::make_sequence(const Admitted& admitted, const std::vector<TokenId>& prompt, int choice) const {
  auto s = std::make_unique<Sequence>();
  s->choice = choice;
  s->sampling = choice % admitted.choices_per_prompt == 0 ? admitted.first : admitted.further;
  // Room for what most answers need, so that passes allocate nothing for them.
  constexpr int64_t kReservedTokens = 1024;
  const auto room = static_cast<size_t>(std::min<int64_t>(s->sampling->max_tokens, kReservedTokens));
  s->tokens.reserve(prompt.size() + room);
  s->tokens = prompt;
  s->prompt_len = static_cast<int64_t>(prompt.size());
  if (model_.plan.device) s->on_cpu = uniform(admitted.hash, kCpuShareStream, static_cast<uint64_t>(choice)) < model_.plan.gpu->cpu_attention_share;
  if (admitted.grammar) {
    s->grammar = std::make_unique<GrammarState>(admitted.grammar);
    s->reasoning = ReasoningGate(admitted.reasoning[static_cast<size_t>(choice / admitted.choices_per_prompt)]);
  }
  s->logprobs = table_for(s->sampling->logprobs);
  s->prompt_logprobs = table_for(s->sampling->prompt_logprobs);
  s->logprobs.entries.reserve(room * static_cast<size_t>(s->logprobs.per_position));
  s->prompt_logprobs.entries.resize(static_cast<size_t>(s->prompt_logprobs.per_position) * (prompt.size() - 1));
  return s;
}

}  // namespace moegen
