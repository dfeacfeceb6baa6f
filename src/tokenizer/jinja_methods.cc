#include <algorithm>
#include <array>
#include <limits>

#include "base/text_search.h"
#include "tokenizer/jinja_format.h"
#include "tokenizer/jinja_interpreter.h"
#include "tokenizer/jinja_operators.h"
#include "tokenizer/jinja_params.h"
#include "tokenizer/jinja_str_format.h"
#include "tokenizer/jinja_text.h"
#include "tokenizer/python_text.h"
#include "tokenizer/unicode.h"

namespace moegen::jinja {
namespace {
using python::Side;

// What a method gets: the name it was called by (some share their code), the value, the arguments.
struct Call {
  Interpreter& in;
  const std::string& name;
  const Value& self;
  Args& args;
  [[nodiscard]] const std::string& text() const { return *self.text(); }
  [[nodiscard]] Heap& heap() const { return in.heap(); }
  [[nodiscard]] Value give(std::string s) const { return heap().text_like(self, std::move(s)); }
  // An argument that becomes part of the text.
  [[nodiscard]] std::string part(const Value& v) const {
    if (self.is_markup()) return escaped(heap(), v);
    require_defined(v);
    if (v.text() == nullptr) fail(name + "() needs a str, not " + v.type_name());
    return *v.text();
  }
};
using Code = Value (*)(const Call&);

class Method : public Object {
 public:
  Method(Value self, std::string name, Code code) : self_(std::move(self)), name_(std::move(name)), code_(code) {}
  [[nodiscard]] std::string type_name() const override { return "builtin_function_or_method"; }
  [[nodiscard]] bool callable() const override { return true; }
  [[nodiscard]] uint32_t depth() const override { return self_.depth() + 1; }
  Value call(Interpreter& in, Args& args) override {
    in.heap().step(1 + self_.weight() / 4);
    return code_({in, name_, self_, args});
  }

 private:
  Value self_;
  std::string name_;
  Code code_;
};

Value list_of(const Call& c, const std::vector<std::string_view>& parts) {
  c.heap().charge(parts.size() * sizeof(Value));
  std::vector<Value> items;
  items.reserve(parts.size());
  for (const std::string_view p : parts) items.push_back(c.give(std::string(p)));
  return c.heap().list(std::move(items));
}

Value change_case(const Call& c) {
  const Params p(c.name, c.args, {});
  c.heap().charge(c.text().size() * 4);
  if (c.name == "upper") return c.give(python::upper(c.text()));
  if (c.name == "lower") return c.give(python::lower(c.text()));
  if (c.name == "casefold") return c.give(python::casefold(c.text()));
  if (c.name == "title") return c.give(python::title(c.text()));
  if (c.name == "swapcase") return c.give(python::swap_case(c.text()));
  return c.give(python::capitalize(c.text()));
}

Value strip(const Call& c) {
  const Params p(c.name, c.args, {"chars"});
  const Side side = c.name == "strip" ? Side::both : c.name == "lstrip" ? Side::left : Side::right;
  if (!p.given(0)) return c.give(std::string(python::strip(c.text(), side)));
  c.heap().step((c.text().size() / 8 + 1) * (p.text(0).size() / 8 + 1));
  return c.give(std::string(python::strip(c.text(), p.text(0), side)));
}

Value split(const Call& c) {
  const Params p(c.name, c.args, {"sep", "maxsplit"});
  const int64_t max = p.integer(1, -1);
  const bool from_right = c.name == "rsplit";
  c.heap().charge(c.text().size() + 64);
  if (!p.given(0)) return list_of(c, from_right ? python::rsplit(c.text(), max) : python::split(c.text(), max));
  if (p.text(0).empty()) fail("empty separator");
  return list_of(c, from_right ? python::rsplit(c.text(), p.text(0), max) : python::split(c.text(), p.text(0), max));
}

Value split_lines(const Call& c) {
  const Params p(c.name, c.args, {"keepends"});
  c.heap().charge(c.text().size());
  return list_of(c, python::split_lines(c.text(), p.flag(0, false)));
}

Value expand_tabs(const Call& c) {
  constexpr int64_t kMaxTab = 1000;
  const Params p(c.name, c.args, {"tabsize"});
  const int64_t size = p.integer(0, 8);
  if (size > kMaxTab) fail("expandtabs: the tab size is too large");
  std::string out;
  int64_t column = 0;
  for (const char ch : c.text()) {
    if (ch == '\t') {
      const int64_t n = size > 0 ? size - column % size : 0;
      c.heap().charge(static_cast<uint64_t>(n));
      out.append(static_cast<size_t>(n), ' ');
      column += n;
      continue;
    }
    out += ch;
    const bool continues = (static_cast<unsigned char>(ch) & 0xC0U) == 0x80;
    column = ch == '\n' || ch == '\r' ? 0 : column + (continues ? 0 : 1);
  }
  return c.give(std::move(out));
}

Value partition(const Call& c) {
  const Params p(c.name, c.args, {"sep"}, 1);
  const std::string& s = c.text();
  if (p.text(0).empty()) fail("empty separator");
  const bool from_right = c.name == "rpartition";
  const size_t at = from_right ? rfind_text(s, p.text(0)) : find_text(s, p.text(0));
  std::vector<Value> three;
  if (at == std::string::npos) {
    three = {c.give(from_right ? "" : s), c.give(""), c.give(from_right ? s : "")};
  } else {
    three = {c.give(s.substr(0, at)), c.give(p.text(0)), c.give(s.substr(at + p.text(0).size()))};
  }
  return c.heap().list(std::move(three), SeqKind::tuple);
}

// The part of the text between two code point indices, as slices count; and where it begins.
std::string_view between(const Call& c, const Params& p, size_t first, size_t& begin_chars) {
  const std::string& s = c.text();
  begin_chars = 0;
  if (!p.given(first) && !p.given(first + 1)) return s;
  const auto size = static_cast<int64_t>(text::count_chars(s));
  const auto bound = [&](int64_t v) { return std::clamp(v < 0 ? (v + size) : v, int64_t{0}, size); };
  const int64_t begin = bound(p.given(first) ? p.integer(first, 0) : 0);
  const int64_t end = bound(p.given(first + 1) ? p.integer(first + 1, size) : size);
  size_t b = 0;
  for (int64_t i = 0; i < begin; ++i) b += text::char_bytes(s[b]);
  size_t e = b;
  for (int64_t i = begin; i < end; ++i) e += text::char_bytes(s[e]);
  begin_chars = static_cast<size_t>(begin);
  return std::string_view(s).substr(b, e - b);
}

Value starts_or_ends(const Call& c) {
  const Params p(c.name, c.args, {"prefix", "start", "end"}, 1);
  size_t begin = 0;
  const std::string_view s = between(c, p, 1, begin);
  const bool starts = c.name == "startswith";
  const auto matches = [&](const Value& v) {
    require_defined(v);
    if (v.text() == nullptr) fail(c.name + " first arg must be str or a tuple of str, not " + v.type_name());
    return starts ? s.starts_with(*v.text()) : s.ends_with(*v.text());
  };
  if (p.at(0).seq() != nullptr && p.at(0).seq()->kind == SeqKind::tuple) {
    const auto& all = p.at(0).seq()->items;
    c.heap().step(all.size());
    return Value(std::any_of(all.begin(), all.end(), matches));
  }
  return Value(matches(p.at(0)));
}

Value find(const Call& c) {
  const Params p(c.name, c.args, {"sub", "start", "end"}, 1);
  size_t begin = 0;
  const std::string_view s = between(c, p, 1, begin);
  const size_t at = c.name[0] == 'r' ? rfind_text(s, p.text(0)) : find_text(s, p.text(0));
  if (at != std::string_view::npos) return Value(static_cast<int64_t>(begin + text::count_chars(s.substr(0, at))));
  if (c.name.ends_with("index")) fail("substring not found");
  return Value(int64_t{-1});
}

Value count(const Call& c) {
  const Params p(c.name, c.args, {"sub", "start", "end"}, 1);
  size_t begin = 0;
  return Value(static_cast<int64_t>(python::count(between(c, p, 1, begin), p.text(0))));
}

Value replace(const Call& c) {
  const Params p(c.name, c.args, {"old", "new", "count"}, 2);
  return c.give(replaced(c.heap(), c.text(), p.text(0), c.part(p.at(1)), p.integer(2, -1)));
}

Value join(const Call& c) {
  const Params p(c.name, c.args, {"iterable"}, 1);
  std::string out;
  bool first = true;
  for (const Value& v : c.in.items_of(p.at(0))) {
    const std::string part = c.part(v);
    c.heap().charge(part.size() + c.text().size());
    c.heap().check_text(out.size() + part.size() + c.text().size());
    if (!first) out += c.text();
    first = false;
    out += part;
  }
  return c.give(std::move(out));
}

Value classify(const Call& c) {
  struct Entry {
    const char* name;
    python::Is what;
  };
  static constexpr std::array<Entry, 12> kAll = {{{"isalpha", python::Is::alpha},
                                                  {"isdigit", python::Is::digit},
                                                  {"isdecimal", python::Is::decimal},
                                                  {"isnumeric", python::Is::numeric},
                                                  {"isalnum", python::Is::alnum},
                                                  {"isspace", python::Is::space},
                                                  {"isupper", python::Is::upper},
                                                  {"islower", python::Is::lower},
                                                  {"istitle", python::Is::title},
                                                  {"isidentifier", python::Is::identifier},
                                                  {"isascii", python::Is::ascii},
                                                  {"isprintable", python::Is::printable}}};
  const Params p(c.name, c.args, {});
  c.heap().charge(c.text().size() * 4);
  for (const Entry& e : kAll) {
    if (c.name == e.name) return Value(python::is(c.text(), e.what));
  }
  return Value(false);
}

Value justify(const Call& c) {
  const Params p(c.name, c.args, {"width", "fillchar"}, 1);
  const std::string fill = p.has(1) ? c.part(p.at(1)) : c.name == "zfill" ? "0" : " ";
  if (text::count_chars(fill) != 1) fail("The fill character must be exactly one character long");
  const auto length = static_cast<int64_t>(text::count_chars(c.text()));
  const int64_t pad = std::max<int64_t>(p.integer(0, 0) - length, 0);
  c.heap().charge(static_cast<uint64_t>(pad) * 4);
  int64_t left = c.name == "ljust" ? 0 : pad;
  if (c.name == "center") left = pad / 2 + (pad & p.integer(0, 0) & 1);
  std::string out;
  const bool sign = c.name == "zfill" && (c.text().starts_with('-') || c.text().starts_with('+'));
  if (sign) out += c.text()[0];
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += c.text().substr(sign ? 1 : 0);
  for (int64_t i = left; i < pad; ++i) out += fill;
  return c.give(std::move(out));
}

Value remove_affix(const Call& c) {
  const Params p(c.name, c.args, {"affix"}, 1);
  const std::string& s = c.text();
  const std::string& affix = p.text(0);
  if (c.name == "removeprefix") return c.give(s.starts_with(affix) ? s.substr(affix.size()) : s);
  return c.give(s.ends_with(affix) ? s.substr(0, s.size() - affix.size()) : s);
}

Value format(const Call& c) { return format_braces(c.in, c.self, c.args); }

Value format_map(const Call& c) {
  const Params p(c.name, c.args, {"mapping"}, 1);
  if (p.at(0).dict() == nullptr) fail("format_map() needs a mapping");
  Args named;
  for (const auto& [key, value] : p.at(0).dict()->items()) {
    c.heap().step();
    if (key.text() != nullptr) named.named.emplace_back(*key.text(), value);
  }
  return format_braces(c.in, c.self, named);
}

Value to_plain(const Call& c) {
  const Params p(c.name, c.args, {});
  return c.heap().text(c.name == "unescape" ? unescaped(c.text()) : without_tags(c.heap(), c.text()));
}

Value dict_view(const Call& c) {
  const Params p(c.name, c.args, {});
  const Dict& d = *c.self.dict();
  c.heap().charge(d.size() * sizeof(Value));
  std::vector<Value> items;
  for (const auto& [key, value] : d.items()) {
    if (c.name == "items") {
      items.push_back(c.heap().list({key, value}, SeqKind::tuple));
    } else {
      items.push_back(c.name == "keys" ? key : value);
    }
  }
  return c.heap().list(std::move(items), c.name == "items" ? SeqKind::items : c.name == "keys" ? SeqKind::keys : SeqKind::values);
}

Value dict_get(const Call& c) {
  const Params p(c.name, c.args, {"key", "default"}, 1);
  const Value* v = c.self.dict()->find(p.at(0));
  return v != nullptr ? *v : p.has(1) ? p.at(1) : Value::none();
}

Value list_find(const Call& c) {
  const Params p(c.name, c.args, {"value"}, 1);
  int64_t n = 0;
  const auto& items = c.self.seq()->items;
  for (size_t i = 0; i < items.size(); ++i) {
    c.heap().step(std::min(items[i].weight(), p.at(0).weight()));
    if (!equal(items[i], p.at(0))) continue;
    if (c.name == "index") return Value(static_cast<int64_t>(i));
    ++n;
  }
  if (c.name == "index") fail("the value is not in the list");
  return Value(n);
}

Value same(const Call& c) {
  const Params p(c.name, c.args, {});
  return c.self;
}

struct Entry {
  const char* name;
  Code code;
};
constexpr std::array<Entry, 46> kTextMethods = {{
    {"upper", change_case},
    {"lower", change_case},
    {"casefold", change_case},
    {"title", change_case},
    {"capitalize", change_case},
    {"swapcase", change_case},
    {"strip", strip},
    {"lstrip", strip},
    {"rstrip", strip},
    {"split", split},
    {"rsplit", split},
    {"splitlines", split_lines},
    {"expandtabs", expand_tabs},
    {"partition", partition},
    {"rpartition", partition},
    {"startswith", starts_or_ends},
    {"endswith", starts_or_ends},
    {"find", find},
    {"rfind", find},
    {"index", find},
    {"rindex", find},
    {"count", count},
    {"replace", replace},
    {"join", join},
    {"isalpha", classify},
    {"isdigit", classify},
    {"isdecimal", classify},
    {"isnumeric", classify},
    {"isalnum", classify},
    {"isspace", classify},
    {"isupper", classify},
    {"islower", classify},
    {"istitle", classify},
    {"isidentifier", classify},
    {"isascii", classify},
    {"isprintable", classify},
    {"center", justify},
    {"ljust", justify},
    {"rjust", justify},
    {"zfill", justify},
    {"removeprefix", remove_affix},
    {"removesuffix", remove_affix},
    {"format", format},
    {"format_map", format_map},
}};
constexpr std::array<Entry, 2> kMarkupMethods = {{{"striptags", to_plain}, {"unescape", to_plain}}};
constexpr std::array<Entry, 5> kDictMethods = {{{"items", dict_view}, {"keys", dict_view}, {"values", dict_view}, {"get", dict_get}, {"copy", same}}};
constexpr std::array<Entry, 3> kListMethods = {{{"index", list_find}, {"count", list_find}, {"copy", same}}};
constexpr std::array<const char*, 8> kListChanges = {"append", "extend", "insert", "pop", "remove", "clear", "reverse", "sort"};
constexpr std::array<const char*, 5> kDictChanges = {"update", "pop", "popitem", "clear", "setdefault"};

template <typename Table>
Value bind(Interpreter& in, const Table& table, const Value& of, const std::string& name) {
  for (const Entry& e : table) {
    if (e.name != nullptr && name == e.name) return in.heap().object(std::make_shared<Method>(of, name, e.code), false);
  }
  return {};
}

template <typename Table>
bool is_one_of(const Table& table, const std::string& name) {
  return std::any_of(table.begin(), table.end(), [&](const char* n) { return name == n; });
}

}  // namespace

Value method(Interpreter& in, const Value& of, const std::string& name) {
  if (of.text() != nullptr) {
    Value bound = bind(in, kTextMethods, of, name);
    return bound.is_undefined() && of.is_markup() ? bind(in, kMarkupMethods, of, name) : bound;
  }
  if (of.dict() != nullptr) {
    if (is_one_of(kDictChanges, name)) return Value::unsafe(name, of);
    return bind(in, kDictMethods, of, name);
  }
  if (of.seq() == nullptr) return {};
  if (of.seq()->kind == SeqKind::list && is_one_of(kListChanges, name)) return Value::unsafe(name, of);
  if (of.seq()->kind == SeqKind::list || of.seq()->kind == SeqKind::tuple) return bind(in, kListMethods, of, name);
  return {};
}

}  // namespace moegen::jinja
