#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/text_search.h"
#include "tokenizer/jinja_filters.h"
#include "tokenizer/jinja_format.h"
#include "tokenizer/jinja_operators.h"
#include "tokenizer/jinja_text.h"
#include "tokenizer/python_text.h"
#include "tokenizer/unicode.h"

namespace moegen::jinja {

std::string replaced(Heap& heap, const std::string& s, const std::string& from, const std::string& to, int64_t max) {
  heap.charge(s.size());
  if (from == to || max == 0) return s;
  std::string out;
  int64_t left = max < 0 ? INT64_MAX : max;
  size_t done = 0;
  if (from.empty()) {  // between all characters
    for (size_t i = 0; i <= s.size() && left > 0; --left) {
      heap.charge(to.size() + 4);
      heap.check_text(out.size() + to.size());
      out.append(s, done, i - done).append(to);
      done = i;
      i += i < s.size() ? text::char_bytes(s[i]) : 1;
    }
  } else {
    for (size_t at = find_text(s, from); at != std::string::npos && left > 0; at = find_text(s, from, done), --left) {
      heap.charge(to.size());
      heap.check_text(out.size() + (at - done) + to.size());
      out.append(s, done, at - done).append(to);
      done = at + from.size();
    }
  }
  return out.append(s, std::min(done, s.size()));
}

namespace {

Value change_case(const FilterCall& c) {
  const Params p = c.params({});
  const std::string s = c.text();
  c.heap().charge(s.size() * 4);
  if (c.name == "upper") return c.give(python::upper(s));
  if (c.name == "lower") return c.give(python::lower(s));
  if (c.name == "capitalize") return c.give(python::capitalize(s));
  std::string out;  // title: words begin behind spaces, hyphens and opening brackets only
  size_t begin = 0;
  const auto word = [&](size_t end) {
    const std::string_view item = std::string_view(s).substr(begin, end - begin);
    const size_t first = item.empty() ? 0 : text::char_bytes(item[0]);
    out += python::upper(item.substr(0, first)) + python::lower(item.substr(first));
    begin = end;
  };
  for (size_t i = 0; i < s.size();) {
    size_t next = i;
    const char32_t ch = text::next_char(s, next);
    if (python::is_space(ch) || ch == '-' || ch == '(' || ch == '{' || ch == '[' || ch == '<') word(next);
    i = next;
  }
  word(s.size());
  return c.heap().text(std::move(out));
}

Value trim(const FilterCall& c) {
  const Params p = c.params({"chars"});
  const std::string s = c.text();
  c.heap().charge(s.size());
  if (!p.given(0)) return c.give(std::string(python::strip(s, python::Side::both)));
  c.heap().step((s.size() / 8 + 1) * (p.text(0).size() / 8 + 1));
  return c.give(std::string(python::strip(s, p.text(0), python::Side::both)));
}

Value to_string(const FilterCall& c) {
  const Params p = c.params({});
  return c.of.text() != nullptr ? c.of : c.heap().text(c.text());
}

Value file_size(const FilterCall& c) {
  const Params p = c.params({"binary"});
  double bytes = 0;
  const bool number = c.of.as_real(bytes) || (c.of.text() != nullptr && python::parse_real(*c.of.text(), bytes));
  require_defined(c.of);
  if (!number || !std::isfinite(bytes)) fail("filesizeformat needs a number, not '" + c.of.type_name() + "'");
  const bool binary = p.flag(0, false);
  const double base = binary ? 1024 : 1000;
  if (bytes == 1) return c.heap().text("1 Byte");
  if (bytes < base) return c.heap().text(fmt::format("{:.0f} Bytes", std::trunc(bytes)));
  static constexpr std::string_view kPrefixes = "kMGTPEZY";
  size_t i = 0;
  for (bytes /= base; bytes >= base && i + 1 < kPrefixes.size(); bytes /= base) ++i;
  const char letter = binary && i == 0 ? 'K' : kPrefixes[i];
  return c.heap().text(fmt::format("{:.1f} {}{}", bytes, letter, binary ? "iB" : "B"));
}

Value replace(const FilterCall& c) {
  const Params p = c.params({"old", "new", "count"}, 2);
  return c.heap().text(replaced(c.heap(), c.text(), to_text(c.heap(), p.at(0)), to_text(c.heap(), p.at(1)), p.given(2) ? p.integer(2, -1) : -1));
}

Value format(const FilterCall& c) {
  if (!c.args.positional.empty() && !c.args.named.empty()) fail("can't handle positional and keyword arguments at the same time");
  return format_percent(c.heap(), c.of.text() != nullptr ? c.of : c.heap().text(c.text()), c.args, !c.args.named.empty());
}

Value word_count(const FilterCall& c) {
  int64_t n = 0;
  bool inside = false;
  const std::string s = c.text();
  c.heap().charge(s.size());
  for (size_t i = 0; i < s.size();) {
    const size_t at = i;
    text::next_char(s, i);
    const bool word = s[at] == '_' || python::is(std::string_view(s).substr(at, i - at), python::Is::alnum);
    n += word && !inside ? 1 : 0;
    inside = word;
  }
  return Value(n);
}

// `query`: as a part of key=value, where '/' is quoted and a space is '+'.
std::string url_quoted(Heap& heap, const std::string& s, bool query) {
  static constexpr std::string_view kSafe = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~";
  heap.charge(s.size() * 3);
  std::string out;
  for (const char ch : s) {
    if (kSafe.find(ch) != std::string_view::npos || (ch == '/' && !query)) {
      out += ch;
    } else if (ch == ' ' && query) {
      out += '+';
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned>(static_cast<unsigned char>(ch)));
    }
  }
  return out;
}

Value url_encode(const FilterCall& c) {
  const bool pairs = c.of.dict() != nullptr || c.of.seq() != nullptr;
  if (!pairs) return c.heap().text(url_quoted(c.heap(), c.text(), false));
  Args none;
  std::string out;
  for (const Value& pair : c.in.items_of(c.of.dict() != nullptr ? c.in.call(method(c.in, c.of, "items"), none) : c.of)) {
    const std::vector<Value> two = c.in.items_of(pair);
    if (two.size() != 2) fail("urlencode needs pairs");
    if (!out.empty()) out += '&';
    out += url_quoted(c.heap(), to_text(c.heap(), two[0]), true) + "=" + url_quoted(c.heap(), to_text(c.heap(), two[1]), true);
    c.heap().check_text(out.size());
  }
  return c.heap().text(std::move(out));
}

Value to_integer(const FilterCall& c) {
  const Params p = c.params({"default", "base"});
  Value otherwise = p.has(0) ? p.at(0) : Value(int64_t{0});
  int64_t v = 0;
  double d = 0;
  if (c.of.as_integer(v)) return Value(v);
  if (c.of.text() != nullptr) {
    const auto base = static_cast<int>(std::clamp<int64_t>(p.integer(1, 10), 2, 36));
    if (python::parse_integer(*c.of.text(), base, v)) return Value(v);
    if (!python::parse_real(*c.of.text(), d)) return otherwise;
  } else if (!c.of.as_real(d)) {
    require_defined(c.of);
    return otherwise;
  }
  if (!std::isfinite(d)) return otherwise;
  if (std::abs(d) >= 9.2e18) fail("an integer is too large: this engine has 64 bits");
  return Value(static_cast<int64_t>(d));
}

Value to_real(const FilterCall& c) {
  const Params p = c.params({"default"});
  double d = 0;
  if (c.of.as_real(d)) return Value(d);
  if (c.of.text() != nullptr && python::parse_real(*c.of.text(), d)) return Value(d);
  require_defined(c.of);
  return p.has(0) ? p.at(0) : Value(0.0);
}

Value absolute(const FilterCall& c) {
  if (const double* d = c.of.real()) return Value(std::abs(*d));
  int64_t v = 0;
  require_defined(c.of);
  if (!c.of.as_integer(v)) fail(std::string("bad operand type for abs(): '") + c.of.type_name() + "'");
  return v < 0 ? binary(c.heap(), "-", Value(int64_t{0}), Value(v)) : Value(v);
}

// round(v, -k) of Python's integers, ties to even.
int64_t rounded_to_tens(int64_t v, int64_t k) {
  if (k > 18) return 0;
  int64_t unit = 1;
  for (; k > 0; --k) unit *= 10;
  const int64_t rest = v % unit;
  const auto twice = 2 * static_cast<uint64_t>(std::abs(rest));
  const bool away = twice > static_cast<uint64_t>(unit) || (twice == static_cast<uint64_t>(unit) && v / unit % 2 != 0);
  int64_t out = v - rest;
  if (away && __builtin_add_overflow(out, v < 0 ? -unit : unit, &out)) fail("an integer is too large: this engine has 64 bits");
  return out;
}

Value round(const FilterCall& c) {
  const Params p = c.params({"precision", "method"});
  const int64_t digits = std::clamp<int64_t>(p.integer(0, 0), -300, 300);
  const std::string how = p.text(1, "common");
  double d = 0;
  require_defined(c.of);
  if (!c.of.as_real(d)) fail(std::string("type ") + c.of.type_name() + " doesn't define __round__ method");
  const double scale = std::pow(10.0, static_cast<double>(digits));
  if (how == "ceil") return Value(std::ceil(d * scale) / scale);
  if (how == "floor") return Value(std::floor(d * scale) / scale);
  if (how != "common") fail("method must be common, ceil or floor");
  if (int64_t whole = 0; c.of.as_integer(whole)) return Value(digits >= 0 ? whole : rounded_to_tens(whole, -digits));
  if (digits < 0) return Value(std::nearbyint(d * scale) / scale);
  double rounded = d;
  if (std::abs(d) < 1e16) python::parse_real(python::fixed(d, static_cast<int>(digits)), rounded);  // exact, ties to even
  return Value(rounded);
}

Value to_json_text(const FilterCall& c) {
  const Params p = c.params({"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = p.flag(0, false);
  style.sort_keys = p.flag(3, false);
  if (p.given(1)) {
    style.item_separator.assign(1, ',');
    style.indent = 0;
    if (p.at(1).text() != nullptr) {
      style.indent_text = p.text(1);
    } else {
      style.indent = std::max<int64_t>(p.integer(1, 0), 0);
      if (style.indent > 1000) fail("tojson: the indentation is too large");
    }
  }
  if (p.given(2)) {
    const std::vector<Value> two = c.in.items_of(p.at(2));
    if (two.size() != 2 || two[0].text() == nullptr || two[1].text() == nullptr) fail("tojson: separators are two texts");
    style.item_separator = *two[0].text();
    style.key_separator = *two[1].text();
  }
  return c.heap().text(to_json(c.heap(), c.of, style));
}

constexpr std::array<FilterEntry, 16> kFilters = {{
    {"upper", change_case},
    {"lower", change_case},
    {"capitalize", change_case},
    {"title", change_case},
    {"trim", trim},
    {"string", to_string},
    {"replace", replace},
    {"format", format},
    {"wordcount", word_count},
    {"urlencode", url_encode},
    {"int", to_integer},
    {"float", to_real},
    {"abs", absolute},
    {"round", round},
    {"tojson", to_json_text},
    {"filesizeformat", file_size},
}};

}  // namespace

std::span<const FilterEntry> text_filters() { return kFilters; }

}  // namespace moegen::jinja
