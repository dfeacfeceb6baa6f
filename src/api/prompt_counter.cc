#include "moegen/prompt_counter.h"

#include <algorithm>
#include <variant>

#include "api/model_texts.h"
#include "checkpoint/checkpoint.h"
#include "moegen/error.h"

namespace moegen {
namespace {

constexpr size_t kParts = 4;
constexpr size_t kPartBytes = 1024;

bool within_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U; }

// Of a long text parts that are spread over it.
int64_t tokens_of(std::string_view text, const Tokenizer& tokenizer) {
  const auto count = [&](std::string_view part) { return tokenizer.encode(part, {.add_special_tokens = false}).size(); };
  if (text.size() <= kParts * kPartBytes) return static_cast<int64_t>(count(text));
  size_t tokens = 0;
  size_t bytes = 0;
  for (size_t i = 0; i < kParts; ++i) {
    size_t begin = i * (text.size() - kPartBytes) / (kParts - 1);
    size_t end = begin + kPartBytes;
    while (begin < end && within_character(text[begin])) ++begin;
    while (end > begin && end < text.size() && within_character(text[end])) --end;
    tokens += count(text.substr(begin, end - begin));
    bytes += end - begin;
  }
  return static_cast<int64_t>(static_cast<double>(tokens) * static_cast<double>(text.size()) / static_cast<double>(std::max<size_t>(1, bytes)));
}

}  // namespace

PromptCounter::PromptCounter(const EngineOptions& options) : texts_(load_texts(options)) {
  const int64_t most = load_spec(options.model, options.max_model_len).max_positions;
  context_ = std::min(options.max_model_len.value_or(most), most);
}

std::optional<int64_t> PromptCounter::count(const Prompt& prompt) const {
  const std::optional<int64_t> tokens = count_any(prompt);
  return tokens && *tokens > 0 && *tokens < context_ ? tokens : std::nullopt;
}

std::optional<int64_t> PromptCounter::count_any(const Prompt& prompt) const {
  if (const auto* ids = std::get_if<std::vector<TokenId>>(&prompt)) return ids->size();
  if (!texts_->tokenizer) return std::nullopt;
  if (const auto* text = std::get_if<std::string>(&prompt)) return tokens_of(*text, *texts_->tokenizer);
  try {
    return tokens_of(texts_->chat_template->render(chat_request(std::get<Chat>(prompt))), *texts_->tokenizer);
  } catch (const Error&) {  // no template, or one that refuses it
    return std::nullopt;
  }
}

}  // namespace moegen
