#include "base/json.h"

#include <set>
#include <string>
#include <vector>

#include "base/error.h"

namespace moegen {
namespace {

// A callback of nlohmann's parser: it sees every event before the value is kept, so limits act while parsing.
class Limiter {
 public:
  Limiter(std::string_view what, const JsonLimits& limits) : what_(what), limits_(limits) {}

  template <typename Json>
  bool operator()(int depth, typename Json::parse_event_t event, const Json& value) {
    using Event = typename Json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      if (static_cast<size_t>(depth) >= limits_.max_depth) {
        throw_error(ErrorCode::corrupt, "{}: JSON nested deeper than {} levels", what_, limits_.max_depth);
      }
    }
    if (!limits_.unique_keys) return true;
    if (event == Event::object_start) keys_.emplace_back();
    if (event == Event::object_end) keys_.pop_back();
    if (event == Event::key && !keys_.back().insert(value.template get_ref<const std::string&>()).second) {
      throw_error(ErrorCode::corrupt, "{}: the key \"{}\" stands twice in one object", what_, value.template get_ref<const std::string&>());
    }
    return true;
  }

 private:
  std::string_view what_;
  JsonLimits limits_;
  std::vector<std::set<std::string>> keys_;  // of the objects that are open
};

template <typename Json>
Json parse(std::string_view text, std::string_view what, const JsonLimits& limits) {
  if (const auto zero = text.find('\0'); zero != std::string_view::npos) {  // the parser would take it for the end
    throw_error(ErrorCode::corrupt, "{}: a zero byte at offset {}", what, zero);
  }
  Limiter limiter(what, limits);
  try {
    return Json::parse(text.begin(), text.end(),
                       [&](int depth, typename Json::parse_event_t event, Json& value) { return limiter.operator()<Json>(depth, event, value); });
  } catch (const typename Json::exception& e) {
    throw_error(ErrorCode::corrupt, "{}: {}", what, e.what());
  }
}

}  // namespace

nlohmann::json parse_json(std::string_view text, std::string_view what, const JsonLimits& limits) {
  return parse<nlohmann::json>(text, what, limits);
}

nlohmann::ordered_json parse_ordered_json(std::string_view text, std::string_view what, const JsonLimits& limits) {
  return parse<nlohmann::ordered_json>(text, what, limits);
}

}  // namespace moegen
