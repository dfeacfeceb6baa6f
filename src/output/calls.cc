#include "output/calls.h"

#include <utility>

#include "output/cursor.h"
#include "output/json_span.h"

namespace moegen {

void Calls::add_text(std::string_view text) {
  const bool blank = trimmed(text).empty();
  if (calls.empty() || !blank) content += text;
  at_end = at_end && blank;
}

void Calls::add_call(ToolCall call) {
  calls.push_back(std::move(call));
  at_end = true;
}

bool is_function_name(std::string_view name) {
  constexpr size_t kMaxBytes = 256;
  return !name.empty() && name.size() <= kMaxBytes && name.find_first_of(" \t\n\r<>{}[]()\"'`,|") == std::string_view::npos;
}

std::optional<std::string> arguments_object(std::string_view json) {
  json = trimmed(json);
  if (json == "null") return "{}";
  if (json.starts_with('"') && is_json(json)) {
    const std::string inner = json_string(json);
    if (!trimmed(inner).starts_with('{') || !is_json(inner)) return std::nullopt;
    return std::string(trimmed(inner));
  }
  if (!json.starts_with('{') || !is_json(json)) return std::nullopt;
  return std::string(json);
}

// SplitMix64, one step a character.
void assign_call_ids(std::vector<ToolCall>& calls, uint64_t key, bool mistral) {
  constexpr std::string_view kAlphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const size_t length = mistral ? 9 : 24;  // mistral's own check of ids: nine letters and digits
  uint64_t state = key;
  for (ToolCall& call : calls) {
    if (!call.id.empty()) continue;
    if (!mistral) call.id = "call_";
    for (size_t i = 0; i < length; ++i) {
      state += 0x9e3779b97f4a7c15U;
      uint64_t z = (state ^ (state >> 30U)) * 0xbf58476d1ce4e5b9U;
      z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
      call.id += kAlphabet[(z ^ (z >> 31U)) % kAlphabet.size()];
    }
  }
}

}  // namespace moegen
