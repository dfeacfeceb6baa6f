#include "batch/logprobs_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

namespace moegen {
namespace {

using Json = nlohmann::ordered_json;

// With the digits that tell one float from the next, not those of its value as a double.
double json_number(float logprob) {
  if (!(logprob > -9999.0F)) return -9999.0;
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, logprob).ptr;
  double value = 0;
  std::from_chars(digits, end, value);
  return value;
}

// The k best, and the token that stands there if it is not among them.
std::vector<const TokenLogprob*> shown(const PositionLogprobs& position, int k) {
  std::vector<const TokenLogprob*> tokens;
  bool chosen = false;
  for (const TokenLogprob& token : position.top) {
    if (tokens.size() == static_cast<size_t>(k)) break;
    tokens.push_back(&token);
    chosen = chosen || token.id == position.token.id;
  }
  if (!chosen) tokens.push_back(&position.token);
  return tokens;
}

Json top_map(const PositionLogprobs& position, int k) {
  const std::string chosen = valid_text(position.token.text);
  Json map = Json::object();
  for (const TokenLogprob* token : shown(position, k)) {
    std::string key = valid_text(token->text);
    const bool taken = token->id != position.token.id && (key == chosen || map.contains(key));
    if (taken) key = fmt::format("token_id:{}", token->id);
    map[key] = json_number(token->logprob);
  }
  return map;
}

Json chat_token(const TokenLogprob& token) {
  Json bytes = Json::array();
  for (const char c : token.text) bytes.push_back(static_cast<unsigned char>(c));
  return {{"token", valid_text(token.text)}, {"logprob", json_number(token.logprob)}, {"bytes", std::move(bytes)}};
}

int64_t characters(const std::string& bytes) {
  return std::count_if(bytes.begin(), bytes.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; });
}

}  // namespace

std::string valid_text(const std::string& bytes) {
  if (std::all_of(bytes.begin(), bytes.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; })) return bytes;
  return Json::parse(Json(bytes).dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
}

Json completion_logprobs(const PromptResult* prompt, const std::vector<PositionLogprobs>& generated, int k) {
  Json tokens = Json::array();
  Json values = Json::array();
  Json tops = Json::array();
  Json offsets = Json::array();
  int64_t offset = 0;
  const auto add = [&](const PositionLogprobs& position, bool known) {
    tokens.push_back(valid_text(position.token.text));
    values.push_back(known ? Json(json_number(position.token.logprob)) : Json());
    tops.push_back(known ? top_map(position, k) : Json());
    offsets.push_back(offset);
    offset += characters(position.token.text);
  };
  if (prompt != nullptr) {
    for (size_t i = 0; i < prompt->logprobs.size(); ++i) {
      const auto& position = prompt->logprobs[i];
      if (position) {
        add(*position, true);
      } else {
        const TokenId id = prompt->token_ids[i];
        const std::string& text = prompt->first_token_text;
        add({{id, 0, 0, text.empty() ? fmt::format("token_id:{}", id) : text}, {}}, false);
      }
    }
  }
  for (const PositionLogprobs& position : generated) add(position, true);
  return {
      {"tokens", std::move(tokens)}, {"token_logprobs", std::move(values)}, {"top_logprobs", std::move(tops)}, {"text_offset", std::move(offsets)}};
}

Json chat_logprobs(const std::vector<PositionLogprobs>& generated, int k) {
  Json content = Json::array();
  for (const PositionLogprobs& position : generated) {
    Json entry = chat_token(position.token);
    Json& top = entry["top_logprobs"] = Json::array();
    if (k > 0) {
      for (const TokenLogprob* token : shown(position, k)) top.push_back(chat_token(*token));
    }
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

Json prompt_logprobs(const PromptResult& prompt, int k) {
  Json positions = Json::array();
  for (const auto& position : prompt.logprobs) {
    if (!position) {
      positions.push_back(nullptr);
      continue;
    }
    Json map = Json::object();
    for (const TokenLogprob* token : shown(*position, k)) {
      map[std::to_string(token->id)] = {{"logprob", json_number(token->logprob)}, {"rank", token->rank}, {"decoded_token", valid_text(token->text)}};
    }
    positions.push_back(std::move(map));
  }
  return positions;
}

}  // namespace moegen
