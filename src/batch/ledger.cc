#include "batch/ledger.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "batch/refusal.h"

namespace moegen {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kIdPrefix = "batch_req_";

// Answers to a duplicate are the only ones whose custom_id belongs to another line.
bool is_duplicate_error(const Json& answer) {
  const Json::json_pointer code("/response/body/error/code");
  return answer.contains(code) && answer[code] == "duplicate_custom_id";
}

bool is_failure(const Json& answer) {
  const auto error = answer.find("error");
  const Json::json_pointer status("/response/status_code");
  return (error != answer.end() && !error->is_null()) || !answer.contains(status) || answer[status] != 200;
}

bool is_cut_off(const Json& answer) {
  const Json::json_pointer message("/error/message");
  return answer.contains(message) && answer[message].is_string() && answer[message].get_ref<const std::string&>().ends_with(kInputEndsWithin);
}

}  // namespace

std::string answer_id(const Key& key) { return std::string(kIdPrefix) + key_text(key); }

std::optional<WrittenAnswer> read_answer(std::string_view line) {
  Json answer;
  try {
    answer = parse_json(line, "an answer", {.max_depth = 1024});
  } catch (const Error&) {
    return std::nullopt;
  }
  if (!answer.is_object() || !answer.contains("custom_id") || (!answer.contains("response") && !answer.contains("error"))) return std::nullopt;
  WrittenAnswer out{.key = {}, .failed = is_failure(answer), .cut_off = is_cut_off(answer)};
  const Json& custom_id = answer["custom_id"];
  if (custom_id.is_string() && !custom_id.get_ref<const std::string&>().empty() && !is_duplicate_error(answer)) {
    out.key = make_key('c', 0, custom_id.get_ref<const std::string&>());
    return out;
  }
  const Json id = answer.value("id", Json());
  const std::string text = id.is_string() ? id.get<std::string>() : "";
  if (text.starts_with(kIdPrefix)) out.key = parse_key(std::string_view(text).substr(kIdPrefix.size()));
  return out;
}

uint64_t request_hash(std::string_view line) {
  std::string text;
  text.reserve(line.size());
  bool in_string = false;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (!in_string && (c == ' ' || c == '\t' || c == '\r')) continue;
    text += c;
    if (c == '"') in_string = !in_string;
    if (in_string && c == '\\' && i + 1 < line.size()) text += line[++i];
  }
  return std::max<uint64_t>(make_key('r', 0, text).low, 1);
}

Ledger::Place Ledger::place_in(KeyTable& lines, const std::string& custom_id, const Line& line) {
  const bool named = !custom_id.empty();
  const char kind = named ? 'c' : 'l';
  const std::string_view text = named ? std::string_view(custom_id) : line.text;
  Place place{.key = make_key(kind, 0, text), .request = line.too_long ? 0 : request_hash(line.text)};
  const KeyTable::Entry before = lines.add(place.key, {.seen = 1});
  if (before.seen > 0) place.key = make_key(kind, before.seen, text);
  place.duplicate = named && before.seen > 0;
  return place;
}

Ledger::Place Ledger::complete(Place place) const {
  const KeyTable::Entry entry = entries_.find(place.key);
  place.answered = entry.answered && !entry.changed;
  place.changed = entry.answered && entry.request != 0 && place.request != 0 && entry.request != place.request;
  return place;
}

}  // namespace moegen
