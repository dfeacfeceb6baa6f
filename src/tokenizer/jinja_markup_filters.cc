#include <algorithm>
#include <array>

#include "tokenizer/jinja_filters.h"
#include "tokenizer/jinja_format.h"
#include "tokenizer/jinja_operators.h"
#include "tokenizer/jinja_text.h"
#include "tokenizer/python_text.h"

namespace moegen::jinja {

std::string escaped(Heap& heap, const std::string& s) {
  std::string out;
  heap.charge(s.size() * 5);
  for (const char ch : s) {
    switch (ch) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += ch;
    }
  }
  return out;
}

std::string escaped(Heap& heap, const Value& v) { return v.is_markup() ? *v.text() : escaped(heap, to_text(heap, v)); }

// The entities that `escape` makes, and their like, as HTML also with capitals and without the semicolon; others stay as they are.
std::string unescaped(std::string_view s) {
  static constexpr std::array<std::pair<std::string_view, char>, 11> kEntities = {{{"&lt", '<'},
                                                                                   {"&gt", '>'},
                                                                                   {"&amp", '&'},
                                                                                   {"&quot", '"'},
                                                                                   {"&LT", '<'},
                                                                                   {"&GT", '>'},
                                                                                   {"&AMP", '&'},
                                                                                   {"&QUOT", '"'},
                                                                                   {"&#34;", '"'},
                                                                                   {"&#39;", '\''},
                                                                                   {"&apos;", '\''}}};
  std::string out;
  for (size_t at = 0; at < s.size();) {
    const auto* entity = std::find_if(kEntities.begin(), kEntities.end(), [&](const auto& e) { return s.substr(at).starts_with(e.first); });
    if (entity == kEntities.end()) {
      out += s[at++];
      continue;
    }
    out += entity->second;
    at += entity->first.size();
    if (s.substr(at).starts_with(';') && entity->first.back() != ';') ++at;
  }
  return out;
}

std::string without_tags(Heap& heap, const std::string& s) {
  heap.charge(s.size() * 2);
  std::string bare;
  size_t done = 0;
  for (size_t open = s.find('<'); open != std::string::npos; open = s.find('<', done)) {
    const bool comment = s.compare(open, 4, "<!--") == 0;
    const size_t close = comment ? s.find("-->", open + 4) : s.find('>', open);
    if (close == std::string::npos) break;
    bare.append(s, done, open - done);
    done = close + (comment ? 3 : 1);
  }
  bare.append(s, done);
  std::string out;
  for (const std::string_view word : python::split(bare, -1)) out.append(out.empty() ? "" : " ").append(word);
  return unescaped(out);
}

namespace {

Value escape(const FilterCall& c) {
  const Params p = c.params({});
  return c.heap().markup(c.name == "forceescape" ? escaped(c.heap(), c.text()) : escaped(c.heap(), c.of));
}

Value safe(const FilterCall& c) {
  const Params p = c.params({});
  return c.heap().markup(c.text());
}

Value strip_tags(const FilterCall& c) {
  const Params p = c.params({});
  return c.heap().text(without_tags(c.heap(), c.text()));
}

Value xml_attributes(const FilterCall& c) {
  const Params p = c.params({"autospace"});
  if (c.of.dict() == nullptr) fail("xmlattr needs a mapping, not '" + c.of.type_name() + "'");
  std::string out;
  for (const auto& [key, value] : c.of.dict()->items()) {
    if (value.is_none() || value.is_undefined()) continue;
    const std::string name = to_text(c.heap(), key);
    if (name.find_first_of(" \t\n\r\f\v/>=") != std::string::npos) fail("Invalid character in attribute name: " + python::repr(name));
    if (!out.empty() || p.flag(0, true)) out += ' ';
    out.append(escaped(c.heap(), key)).append("=\"").append(escaped(c.heap(), value)).append("\"");
    c.heap().check_text(out.size());
  }
  return c.heap().text(std::move(out));
}

constexpr std::array<FilterEntry, 6> kFilters = {
    {{"escape", escape}, {"e", escape}, {"forceescape", escape}, {"safe", safe}, {"striptags", strip_tags}, {"xmlattr", xml_attributes}}};

}  // namespace

std::span<const FilterEntry> markup_filters() { return kFilters; }

}  // namespace moegen::jinja
