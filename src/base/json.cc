#include "base/json.h"

#include <string>
#include <unordered_set>
#include <vector>

#include "base/error.h"

namespace moegen {
namespace {

// "[json.exception.parse_error.101] parse error at line 1, column 4: why": the library's own name says nothing, nor the line of a text of one.
std::string fault(const char* what, std::string_view text) {
  std::string_view out = what;
  if (out.starts_with('[') && out.find("] ") != std::string_view::npos) out.remove_prefix(out.find("] ") + 2);
  constexpr std::string_view kAt = "parse error at ", kFirst = "line 1, ";
  if (out.starts_with(kAt)) out.remove_prefix(kAt.size());
  if (out.starts_with(kFirst) && text.find('\n') == std::string_view::npos) out.remove_prefix(kFirst.size());
  return std::string(out);
}

// Looks at every event and keeps nothing, so limits act before a value is made. nlohmann's own parse callback would do the same
// with one pass less, but it searches the whole parent after every nested value: quadratic in the members of an object.
class LimitCheck : public nlohmann::json_sax<nlohmann::json> {
 public:
  LimitCheck(std::string_view text, std::string_view what, const JsonLimits& limits) : text_(text), what_(what), limits_(limits) {}

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override {
    if (limits_.unique_keys) keys_.emplace_back();
    return enter();
  }
  bool key(string_t& name) override {
    if (limits_.unique_keys && !keys_.back().insert(name).second) {
      throw_error(ErrorCode::corrupt, "{}: the key \"{}\" stands twice in one object", what_, name);
    }
    return true;
  }
  bool end_object() override {
    if (limits_.unique_keys) keys_.pop_back();
    --depth_;
    return true;
  }
  bool start_array(std::size_t) override { return enter(); }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& e) override {
    throw_error(ErrorCode::corrupt, "{}: {}", what_, fault(e.what(), text_));
  }

 private:
  bool enter() {
    if (depth_++ >= limits_.max_depth) throw_error(ErrorCode::corrupt, "{}: JSON nested deeper than {} levels", what_, limits_.max_depth);
    return true;
  }

  std::string_view text_, what_;
  JsonLimits limits_;
  size_t depth_ = 0;
  std::vector<std::unordered_set<std::string>> keys_;  // of the objects that are open
};

template <typename Json>
Json parse(std::string_view text, std::string_view what, const JsonLimits& limits) {
  if (const auto zero = text.find('\0'); zero != std::string_view::npos) {  // the parser would take it for the end
    throw_error(ErrorCode::corrupt, "{}: a zero byte at offset {}", what, zero);
  }
  refuse_lfs_pointer(text, what);
  LimitCheck check(text, what, limits);
  nlohmann::json::sax_parse(text.begin(), text.end(), &check);
  try {
    return Json::parse(text.begin(), text.end());
  } catch (const typename Json::exception& e) {
    throw_error(ErrorCode::corrupt, "{}: {}", what, fault(e.what(), text));
  }
}

}  // namespace

nlohmann::json parse_json(std::string_view text, std::string_view what, const JsonLimits& limits) {
  return parse<nlohmann::json>(text, what, limits);
}

nlohmann::ordered_json parse_ordered_json(std::string_view text, std::string_view what, const JsonLimits& limits) {
  return parse<nlohmann::ordered_json>(text, what, limits);
}

void refuse_lfs_pointer(std::string_view start, std::string_view what) {
  constexpr std::string_view kPointer = "version https://git-lfs";
  if (start.size() >= 8 && kPointer.starts_with(start.substr(0, kPointer.size())))
    throw_error(ErrorCode::corrupt, "{}: is a pointer of Git LFS in place of the file: `git lfs pull` fetches it", what);
}

std::string without_lone_surrogates(std::string line) {
  const auto unit_at = [&](size_t i) -> int {  // of "\uXXXX" at i
    if (i + 6 > line.size() || line[i] != '\\' || line[i + 1] != 'u') return -1;
    int unit = 0;
    for (size_t k = i + 2; k < i + 6; ++k) {
      const char c = line[k];
      const int digit = c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
      if (digit < 0) return -1;
      unit = unit * 16 + digit;
    }
    return unit;
  };
  for (size_t i = line.find('\\'); i < line.size(); i = line.find('\\', i)) {
    const int unit = unit_at(i);
    if (unit >= 0xD800 && unit < 0xDC00) {
      const int next = unit_at(i + 6);
      if (next >= 0xDC00 && next < 0xE000) {
        i += 12;
        continue;
      }
    }
    if (unit >= 0xD800 && unit < 0xE000) line.replace(i + 2, 4, "FFFD");
    i += unit >= 0 ? 6 : 2;
  }
  return line;
}

}  // namespace moegen
