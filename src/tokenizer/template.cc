#include <algorithm>
#include <charconv>
#include <chrono>
#include <ctime>

#include "base/clock.h"
#include "base/error.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/jinja_interpreter.h"
#include "tokenizer/jinja_parser.h"
#include "tokenizer/unicode.h"

namespace moegen {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxSourceBytes = 4 << 20;
constexpr uint64_t kBytesPerContextByte = 64;  // that values may take, beside what RenderLimits says
constexpr uint64_t kMaxContextDepth = 512;

// Bytes of the values, not more than a rough sum.
jinja::Value to_value(jinja::Heap& heap, const Json& v, size_t depth) {
  using jinja::Value;
  if (depth > kMaxContextDepth) jinja::fail("the context is nested too deep");
  switch (v.type()) {
    case Json::value_t::boolean:
      return Value(v.get<bool>());
    case Json::value_t::number_integer:
      return Value(v.get<int64_t>());
    case Json::value_t::number_unsigned:
      if (v.get<uint64_t>() > INT64_MAX) return Value(v.get<double>());
      return Value(v.get<int64_t>());
    case Json::value_t::number_float:
      return Value(v.get<double>());
    case Json::value_t::string:
      return heap.text(text::valid_utf8(v.get_ref<const std::string&>()));
    case Json::value_t::array: {
      std::vector<Value> items;
      for (const Json& i : v) items.push_back(to_value(heap, i, depth + 1));
      return heap.list(std::move(items));
    }
    case Json::value_t::object: {
      jinja::Dict dict;
      for (const auto& [key, value] : v.items()) dict.set(heap.text(text::valid_utf8(key)), to_value(heap, value, depth + 1));
      return heap.dict(std::move(dict));
    }
    default:
      return Value::none();
  }
}

uint64_t bytes_of(const Json& v, size_t depth) {
  if (depth > kMaxContextDepth) return 0;
  uint64_t n = 64;
  if (v.is_string()) return n + v.get_ref<const std::string&>().size();
  if (v.is_object()) {
    for (const auto& [key, value] : v.items()) n += 64 + key.size() + bytes_of(value, depth + 1);
  } else if (v.is_array()) {
    for (const Json& i : v) n += bytes_of(i, depth + 1);
  }
  return n;
}

[[noreturn]] void bad_time(const std::string& now) {
  throw_error(ErrorCode::invalid_argument, "\"now\" is not a time as 2027-11-30T23:05:59: {}", now.substr(0, 40));
}

// Checks the range of a number with a fixed number of digits.
int number(const std::string& now, size_t at, size_t digits, int low, int high) {
  int v = 0;
  const char* begin = now.data() + at;
  const auto [end, error] = std::from_chars(begin, begin + digits, v);
  if (error != std::errc() || end != begin + digits || v < low || v > high) bad_time(now);
  return v;
}

std::tm time_of(const std::optional<std::string>& now) {
  std::tm t{};
  if (!now) {
    const std::time_t seconds = std::chrono::system_clock::to_time_t(Clock::wall());
    ::localtime_r(&seconds, &t);
    return t;
  }
  if (now->size() < 10 || (*now)[4] != '-' || (*now)[7] != '-') bad_time(*now);
  const int year = number(*now, 0, 4, 1, 9999);
  const int month = number(*now, 5, 2, 1, 12);
  const int day = number(*now, 8, 2, 1, 31);
  if (now->size() >= 19) {
    if ((*now)[13] != ':' || (*now)[16] != ':') bad_time(*now);
    t.tm_hour = number(*now, 11, 2, 0, 23);
    t.tm_min = number(*now, 14, 2, 0, 59);
    t.tm_sec = number(*now, 17, 2, 0, 59);
  }
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok()) bad_time(*now);
  const std::chrono::sys_days days = date;
  t.tm_year = year - 1900;
  t.tm_mon = month - 1;
  t.tm_mday = day;
  t.tm_wday = static_cast<int>(std::chrono::weekday(days).c_encoding());
  t.tm_yday = static_cast<int>((days - std::chrono::sys_days(date.year() / 1 / 1)).count());
  return t;
}

}  // namespace

struct Template::Impl {
  jinja::TemplateTree tree;
};

Template::Template(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;
Template::~Template() = default;

const ContentUse& Template::content_use() const { return impl_->tree.content; }

Template Template::parse(const std::string& source) {
  if (source.size() > kMaxSourceBytes) throw_error(ErrorCode::invalid_argument, "a template of {} bytes is too long", source.size());
  try {
    auto impl = std::make_shared<Impl>();
    impl->tree = jinja::parse(text::valid_utf8(source));
    return Template(std::move(impl));
  } catch (const jinja::SyntaxError& e) {
    throw_error(ErrorCode::invalid_argument, "template, line {}: {}", e.line, e.message);
  } catch (const jinja::TemplateError& e) {
    throw_error(ErrorCode::invalid_argument, "template: {}", e.what());
  }
}

std::string Template::render(const nlohmann::ordered_json& context, const std::optional<std::string>& now, const RenderLimits& limits) const {
  if (!context.is_object()) throw_error(ErrorCode::invalid_argument, "the context of a template has to be an object");
  const std::tm time = time_of(now);
  const uint64_t bytes = bytes_of(context, 0);
  jinja::Heap heap(limits.max_steps + bytes * kBytesPerContextByte / 8, limits.max_bytes + bytes * kBytesPerContextByte,
                   limits.max_text_bytes + 8 * bytes);
  jinja::Interpreter interpreter(heap, time);
  try {
    const jinja::Value variables = to_value(heap, context, 0);
    return interpreter.render(impl_->tree, *variables.dict());
  } catch (const jinja::TemplateError& e) {
    throw_error(ErrorCode::invalid_argument, "template, line {}: {}", interpreter.line(), e.what());
  }
}

}  // namespace moegen
