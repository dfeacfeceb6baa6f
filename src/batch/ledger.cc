#include "batch/ledger.h"

#include "base/error.h"
#include "base/json.h"

namespace moegen {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kIdPrefix = "batch_req_";

// Answers to a duplicate are the only ones whose custom_id belongs to another line.
bool is_duplicate_error(const Json& answer) {
  const Json::json_pointer code("/response/body/error/code");
  return answer.contains(code) && answer[code] == "duplicate_custom_id";
}

}  // namespace

std::string answer_id(const Key& key) { return std::string(kIdPrefix) + key_text(key); }

Ledger::Place Ledger::enter(const std::string& custom_id, std::string_view line) {
  const bool named = !custom_id.empty();
  const std::string_view text = named ? std::string_view(custom_id) : line;
  Place place{.key = make_key(named ? 'c' : 'l', 0, text)};
  const KeyTable::Entry before = entries_.add(place.key, {.seen = 1});
  place.answered = before.answered;
  if (before.seen > 0) {
    place.key = make_key(named ? 'c' : 'l', before.seen, text);
    place.duplicate = named;
    place.answered = entries_.find(place.key).answered;
  }
  return place;
}

bool Ledger::enter_answer(std::string_view line) {
  Json answer;
  try {
    answer = parse_json(line, "an answer", {.max_depth = 1024});
  } catch (const Error&) {
    return false;
  }
  if (!answer.is_object() || !answer.contains("custom_id") || (!answer.contains("response") && !answer.contains("error"))) return false;
  ++answers_;
  const Json& custom_id = answer["custom_id"];
  if (custom_id.is_string() && !custom_id.get_ref<const std::string&>().empty() && !is_duplicate_error(answer)) {
    entries_.add(make_key('c', 0, custom_id.get_ref<const std::string&>()), {.answered = true});
    return true;
  }
  const Json id = answer.value("id", Json());
  const std::string text = id.is_string() ? id.get<std::string>() : "";
  if (!text.starts_with(kIdPrefix)) return true;
  if (const auto key = parse_key(std::string_view(text).substr(kIdPrefix.size()))) entries_.add(*key, {.answered = true});
  return true;
}

}  // namespace moegen
