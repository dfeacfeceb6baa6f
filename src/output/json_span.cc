#include "output/json_span.h"

#include <nlohmann/json.hpp>

#include "output/cursor.h"

namespace moegen {
namespace {

using Json = nlohmann::json;

// Behind the string that begins at `pos`; npos if it does not end.
size_t string_end(std::string_view text, size_t pos) {
  for (++pos; pos < text.size(); pos += 2) {  // over what is escaped
    pos = text.find_first_of("\"\\", pos);
    if (pos == std::string_view::npos) return pos;
    if (text[pos] == '"') return pos + 1;
  }
  return std::string_view::npos;
}

// Behind the brackets that open at `pos`; whether they are of the same kind is for the validation to see.
size_t bracket_end(std::string_view text, size_t pos) {
  size_t depth = 0;
  while (pos < text.size()) {
    const char c = text[pos];
    if (c == '"') {
      pos = string_end(text, pos);
      continue;
    }
    if (c == '{' || c == '[') ++depth;
    if ((c == '}' || c == ']') && --depth == 0) return pos + 1;
    pos = text.find_first_of("{}[]\"", pos + 1);
  }
  return std::string_view::npos;
}

// The value at the cursor by its outline only.
std::optional<std::string_view> outline(Cursor& c) {
  c.skip_space();
  if (c.done()) return std::nullopt;
  const char first = c.text[c.pos];
  size_t end = 0;
  if (first == '{' || first == '[') {
    end = bracket_end(c.text, c.pos);
  } else if (first == '"') {
    end = string_end(c.text, c.pos);
  } else {
    end = std::min(c.text.size(), c.text.find_first_of(" \t\n\r,}]<[", c.pos));
  }
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view value = c.text.substr(c.pos, end - c.pos);
  c.pos = end;
  return value;
}

}  // namespace

bool is_json(std::string_view text) {
  if (text.find('\0') != std::string_view::npos) return false;  // the parser would take it for the end
  return Json::accept(text.begin(), text.end());
}

std::optional<std::string_view> json_value(std::string_view text) {
  Cursor c{text};
  const auto value = outline(c);
  return value && is_json(*value) ? value : std::nullopt;
}

std::vector<std::pair<std::string, std::string_view>> json_members(std::string_view object) {
  std::vector<std::pair<std::string, std::string_view>> out;
  Cursor c{object};
  c.skip_space();
  c.skip("{");
  for (c.skip_space(); !c.done() && !c.at("}"); c.skip_space()) {
    const auto key = outline(c);
    c.skip_space();
    c.skip(":");
    const auto value = outline(c);
    if (!key || !value) return {};
    out.emplace_back(json_string(*key), *value);
    c.skip_space();
    if (!c.skip(",")) break;
  }
  return out;
}

std::vector<std::string_view> json_elements(std::string_view array) {
  std::vector<std::string_view> out;
  Cursor c{array};
  c.skip_space();
  c.skip("[");
  for (c.skip_space(); !c.done() && !c.at("]"); c.skip_space()) {
    const auto value = outline(c);
    if (!value) return {};
    out.push_back(*value);
    c.skip_space();
    if (!c.skip(",")) break;
  }
  return out;
}

std::string json_string(std::string_view quoted) {
  const Json value = Json::parse(quoted.begin(), quoted.end(), nullptr, false);
  return value.is_string() ? value.get<std::string>() : std::string();
}

std::string json_quoted(std::string_view text) { return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace moegen
