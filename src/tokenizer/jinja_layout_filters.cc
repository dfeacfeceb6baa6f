#include <algorithm>
#include <array>
#include <utility>

#include "tokenizer/jinja_filters.h"
#include "tokenizer/jinja_format.h"
#include "tokenizer/jinja_operators.h"
#include "tokenizer/python_text.h"
#include "tokenizer/regex.h"
#include "tokenizer/unicode.h"

namespace moegen::jinja {
namespace {

Value indent(const FilterCall& c) {
  const Params p = c.params({"width", "first", "blank"});
  std::string unit;
  if (p.has(0) && p.at(0).text() != nullptr) {
    unit = p.text(0);
  } else {
    const int64_t width = p.integer(0, 4);
    c.heap().charge(static_cast<uint64_t>(std::max<int64_t>(width, 0)));
    unit.assign(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  }
  require_defined(c.of);
  if (c.of.text() == nullptr) fail(std::string("indent needs a text, not '") + c.of.type_name() + "'");
  const std::string s = *c.of.text() + "\n";
  std::string out;
  const auto lines = python::split_lines(s, false);
  for (size_t i = 0; i < lines.size(); ++i) {
    c.heap().charge(unit.size() + lines[i].size() + 1);
    if (i > 0) out += '\n';
    const bool wanted = i == 0 ? p.flag(1, false) : p.flag(2, false) || !lines[i].empty();
    if (wanted) out += unit;
    out += lines[i];
  }
  return c.give(std::move(out));
}

Value center(const FilterCall& c) {
  const Params p = c.params({"width"});
  Args args;
  args.positional.emplace_back(p.integer(0, 80));
  return c.in.call(method(c.in, c.give(c.text()), "center"), args);
}

Value truncate(const FilterCall& c) {
  const Params p = c.params({"length", "killwords", "end", "leeway"});
  const Value end = p.has(2) ? p.at(2) : c.heap().text("...");
  const auto end_chars = static_cast<int64_t>(text::count_chars(p.text(2, "...")));
  const int64_t length = p.integer(0, 255);
  const int64_t leeway = p.given(3) ? p.integer(3, 5) : 5;
  if (length < end_chars || leeway < 0) fail("truncate: the length is less than that of the end");
  const auto fits = [&](size_t size) { return static_cast<int64_t>(size) <= length || static_cast<int64_t>(size) - length <= leeway; };
  const bool sized = c.of.seq() != nullptr && !c.of.seq()->is_generator();
  if (c.of.is_undefined() || (sized && fits(c.of.seq()->items.size())) || (c.of.dict() != nullptr && fits(c.of.dict()->size()))) return c.of;
  if (c.of.text() == nullptr) fail(std::string("truncate needs a text, not '") + c.of.type_name() + "'");
  const std::u32string s = text::to_utf32(*c.of.text());
  c.heap().charge(s.size() * 4);
  if (fits(s.size())) return c.of;
  std::u32string cut = s.substr(0, static_cast<size_t>(length - end_chars));
  const size_t space = cut.rfind(U' ');
  if (!p.flag(1, false) && space != std::u32string::npos) cut.resize(space);
  std::string out;
  for (const char32_t ch : cut) text::append_utf8(out, ch);
  return binary(c.heap(), "+", c.give(std::move(out)), end);
}

// textwrap's words with the white space between them: cut behind hyphens within words, and around dashes.
std::vector<std::u32string> chunks_of(std::string_view line, bool at_hyphens) {
  static const text::Regex words = text::Regex::compile(
      R"([\t\n\x0b\x0c\r ]+|(?<=[\w!"'&.,?])-{2,}(?=\w)|[^\t\n\x0b\x0c\r ]+?(?:-(?:(?<=[^\d\W]{2}-)|(?<=[^\d\W]-[\w!"'&.,?]-))(?=[^\d\W]-?[^\d\W])|(?=[\t\n\x0b\x0c\r ]|\z)|(?<=[\w!"'&.,?])(?=-{2,}\w)))");
  static const text::Regex spaces = text::Regex::compile(R"([\t\n\x0b\x0c\r ]+)");
  std::vector<std::u32string> out;
  const auto add = [&](size_t begin, size_t end) {
    if (begin < end) out.push_back(text::to_utf32(line.substr(begin, end - begin)));
  };
  size_t done = 0;
  text::Regex::Scratch scratch;
  text::for_each_match(at_hyphens ? words : spaces, line, scratch, [&](const text::Match& m) {
    add(done, m.begin);
    add(m.begin, m.end);
    done = m.end;
  });
  add(done, line.size());
  return out;
}

bool is_blank(std::u32string_view s) { return std::all_of(s.begin(), s.end(), python::is_space); }

// How much of a word that is too long for any line goes on this one, where `room` characters are left.
size_t cut_of(std::u32string_view word, size_t room, bool at_hyphens) {
  const std::u32string_view part = word.substr(0, room);
  const size_t hyphen = at_hyphens ? part.rfind(U'-') : std::u32string_view::npos;
  const bool within = hyphen != std::u32string_view::npos && part.find_first_not_of(U'-') < hyphen;
  return within ? hyphen + 1 : room;
}

// textwrap.wrap of one line.
std::vector<std::u32string> wrapped(std::string_view line, size_t width, bool break_long_words, bool at_hyphens) {
  const std::vector<std::u32string> all_chunks = chunks_of(line, at_hyphens);
  std::vector<std::u32string_view> chunks(all_chunks.begin(), all_chunks.end());
  std::vector<std::u32string> lines;
  for (size_t i = 0; i < chunks.size();) {
    std::vector<std::u32string_view> now;
    size_t length = 0;
    if (!lines.empty() && is_blank(chunks[i])) ++i;
    for (; i < chunks.size() && length + chunks[i].size() <= width; ++i) {
      length += chunks[i].size();
      now.push_back(chunks[i]);
    }
    if (i < chunks.size() && chunks[i].size() > width) {
      if (break_long_words) {
        const size_t cut = cut_of(chunks[i], width - length, at_hyphens);
        now.push_back(chunks[i].substr(0, cut));
        chunks[i].remove_prefix(cut);
      } else if (now.empty()) {
        now.push_back(chunks[i++]);
      }
    }
    if (!now.empty() && is_blank(now.back())) now.pop_back();
    if (now.empty()) continue;
    std::u32string all;
    for (const std::u32string_view part : now) all += part;
    lines.push_back(std::move(all));
  }
  return lines;
}

Value word_wrap(const FilterCall& c) {
  const Params p = c.params({"width", "break_long_words", "wrapstring", "break_on_hyphens"});
  const std::string between = p.given(2) ? p.text(2) : "\n";
  const int64_t width = p.integer(0, 79);
  require_defined(c.of);
  if (c.of.text() == nullptr) fail("wordwrap needs a text, not '" + c.of.type_name() + "'");
  std::string out;
  bool first = true;
  for (const std::string_view line : python::split_lines(*c.of.text(), false)) {
    c.heap().charge(line.size() * 64 + 64);
    if (width <= 0) fail("invalid width " + std::to_string(width) + " (must be > 0)");
    if (!std::exchange(first, false)) out += between;
    const auto parts = wrapped(line, static_cast<size_t>(width), p.flag(1, true), p.flag(3, true));
    for (size_t i = 0; i < parts.size(); ++i) {
      c.heap().charge(between.size());
      c.heap().check_text(out.size() + between.size());
      if (i > 0) out += between;
      for (const char32_t ch : parts[i]) text::append_utf8(out, ch);
    }
  }
  return c.heap().text(std::move(out));
}

// Python's pprint: 80 columns, dicts in the order of their keys.
class PrettyPrinter {
 public:
  explicit PrettyPrinter(Heap& heap) : heap_(heap) {}
  std::string out;

  void write(const Value& v, size_t indent, size_t allowance, size_t level) {
    std::string all = to_repr(heap_, v);
    const bool plain_text = v.text() != nullptr && !v.is_markup();
    const bool list = v.seq() != nullptr && (v.seq()->kind == SeqKind::list || v.seq()->kind == SeqKind::tuple);
    if (indent + allowance + text::count_chars(all) <= kWidth || !(v.truth() && (plain_text || list || v.dict() != nullptr))) {
      out += all;
    } else if (plain_text) {
      long_text(*v.text(), indent, allowance, level == 0);
    } else if (list) {
      const auto& items = v.seq()->items;
      const bool tuple = v.seq()->kind == SeqKind::tuple;
      const std::string close = !tuple ? "]" : items.size() == 1 ? ",)" : ")";
      out += tuple ? '(' : '[';
      for (size_t i = 0; i < items.size(); ++i) {
        if (i > 0) new_line(indent + 1, ",");
        write(items[i], indent + 1, i + 1 < items.size() ? 1 : allowance + close.size(), level + 1);
      }
      out += close;
    } else {
      const auto& items = v.dict()->items();
      out += '{';
      for (size_t i = 0; i < items.size(); ++i) {
        if (i > 0) new_line(indent + 1, ",");
        const std::string key = to_repr(heap_, items[i].first);
        out += key + ": ";
        write(items[i].second, indent + 1 + text::count_chars(key) + 2, i + 1 < items.size() ? 1 : allowance + 1, level + 1);
      }
      out += '}';
    }
    heap_.check_text(out.size());
  }

  // With the items of all dicts in order.
  Value sorted(const Value& v) {
    const Seq* s = v.seq();
    if (s != nullptr && (s->kind == SeqKind::list || s->kind == SeqKind::tuple)) {
      std::vector<Value> items;
      for (const Value& i : s->items) items.push_back(sorted(i));
      return heap_.list(std::move(items), s->kind);
    }
    if (v.dict() == nullptr) return v;
    std::vector<Dict::Item> items;
    for (const auto& [key, value] : v.dict()->items()) items.emplace_back(sorted(key), sorted(value));
    heap_.charge(items.size() * sizeof(Dict::Item));
    std::stable_sort(items.begin(), items.end(), [](const Dict::Item& a, const Dict::Item& b) { return before(a.first, b.first); });
    Dict d;
    for (auto& [key, value] : items) d.set(std::move(key), std::move(value));
    return heap_.dict(std::move(d));
  }

 private:
  static constexpr size_t kWidth = 80;

  static bool before(const Value& a, const Value& b) {
    const bool ordered = (a.is_number() && b.is_number()) || (a.text() != nullptr && b.text() != nullptr);
    return ordered ? compare(a, b, "<") == -1 : a.type_name() < b.type_name();
  }

  void new_line(size_t indent, const char* end) {
    heap_.charge(indent + 2);
    out.append(end).append("\n").append(indent, ' ');
  }

  // A line a literal, and of a long line as many words as fit.
  void long_text(const std::string& s, size_t indent, size_t allowance, bool outermost) {
    if (outermost) ++indent, ++allowance;
    const auto length = [](const std::string& repr) { return text::count_chars(repr); };
    const auto lines = python::split_lines(s, true);
    const size_t width = kWidth > indent ? kWidth - indent : 0;
    const size_t last_width = width > allowance ? width - allowance : 0;
    std::vector<std::string> parts;
    for (size_t i = 0; i < lines.size(); ++i) {
      const bool last_line = i + 1 == lines.size();
      std::string whole = python::repr(lines[i]);
      heap_.charge(whole.size());
      if (length(whole) <= (last_line ? last_width : width)) {
        parts.push_back(std::move(whole));
        continue;
      }
      std::string_view rest = lines[i];
      std::string current;
      while (!rest.empty()) {
        const std::string_view word = first_word(rest);
        rest.remove_prefix(word.size());
        std::string candidate = current + std::string(word);
        heap_.charge(candidate.size());
        if (length(python::repr(candidate)) > (last_line && rest.empty() ? last_width : width)) {
          if (!current.empty()) parts.push_back(python::repr(current));
          current = word;
        } else {
          current = std::move(candidate);
        }
      }
      parts.push_back(python::repr(current));
    }
    const bool bracketed = outermost && parts.size() > 1;
    if (bracketed) out += '(';
    for (size_t i = 0; i < parts.size(); ++i) {
      if (i > 0) new_line(indent, "");
      out += parts[i];
    }
    if (bracketed) out += ')';
  }

  // \S*\s*
  static std::string_view first_word(std::string_view s) {
    size_t end = 0;
    bool in_space = false;
    while (end < s.size()) {
      size_t next = end;
      const bool space = python::is_space(text::next_char(s, next));
      if (in_space && !space) break;
      in_space = space;
      end = next;
    }
    return s.substr(0, end);
  }

  Heap& heap_;
};

Value pretty_print(const FilterCall& c) {
  const Params p = c.params({});
  PrettyPrinter printer(c.heap());
  printer.write(printer.sorted(c.of), 0, 0, 0);
  return c.heap().text(std::move(printer.out));
}

constexpr std::array<FilterEntry, 5> kFilters = {
    {{"indent", indent}, {"center", center}, {"truncate", truncate}, {"wordwrap", word_wrap}, {"pprint", pretty_print}}};

}  // namespace

std::span<const FilterEntry> layout_filters() { return kFilters; }

}  // namespace moegen::jinja
