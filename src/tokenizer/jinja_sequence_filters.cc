#include <algorithm>
#include <array>

#include "tokenizer/jinja_filters.h"
#include "tokenizer/jinja_format.h"
#include "tokenizer/jinja_operators.h"
#include "tokenizer/python_text.h"
#include "tokenizer/unicode.h"

namespace moegen::jinja {

Value nested_attribute(Interpreter& in, const Value& of, const Value& path, const Value* otherwise) {
  Value v = of;
  const auto step = [&](const Value& key) {
    v = in.item(v, key);
    if (v.is_undefined() && otherwise != nullptr) v = *otherwise;
  };
  if (path.text() == nullptr) {
    step(path);
    return v;
  }
  for (const std::string_view part : python::split(*path.text(), ".", -1)) {
    const bool digits = !part.empty() && part.size() < 10 && std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    step(digits ? Value(static_cast<int64_t>(std::stoll(std::string(part)))) : in.heap().text(std::string(part)));
  }
  return v;
}

namespace {

Value length(const FilterCall& c) {
  const Params p = c.params({});
  if (const std::string* s = c.of.text()) {
    c.heap().step(1 + s->size() / 16);
    return Value(static_cast<int64_t>(text::count_chars(*s)));
  }
  if (const Dict* d = c.of.dict()) return Value(static_cast<int64_t>(d->size()));
  if (c.of.is_undefined()) return Value(int64_t{0});
  if (c.of.seq() == nullptr || c.of.seq()->is_generator()) fail(std::string("object of type '") + c.of.type_name() + "' has no len()");
  return Value(static_cast<int64_t>(c.of.seq()->items.size()));
}

Value first_or_last(const FilterCall& c) {
  const Params p = c.params({});
  if (c.name == "last" && c.of.seq() != nullptr && c.of.seq()->is_generator()) fail("'generator' object is not reversible");
  const std::vector<Value> items = c.in.items_of(c.of);
  if (items.empty()) return Value::undefined(std::string("No ") + c.name + " item, sequence was empty.");
  return c.name == "first" ? items.front() : c.of.is_markup() ? c.heap().markup(*items.back().text()) : items.back();
}

Value join(const FilterCall& c) {
  const Params p = c.params({"d", "attribute"});
  const std::string between = p.has(0) ? to_text(c.heap(), p.at(0)) : "";
  std::string out;
  bool first = true;
  for (const Value& v : c.in.items_of(c.of)) {
    c.heap().step();
    const std::string part = to_text(c.heap(), p.given(1) ? nested_attribute(c.in, v, p.at(1)) : v);
    c.heap().charge(part.size() + between.size());
    c.heap().check_text(out.size() + part.size() + between.size());
    if (!first) out += between;
    first = false;
    out += part;
  }
  return c.heap().text(std::move(out));
}

Value list(const FilterCall& c) {
  const Params p = c.params({});
  return c.heap().list(c.in.items_of(c.of));
}

Value items(const FilterCall& c) {
  if (c.of.is_undefined()) return c.heap().list({}, SeqKind::generator);
  if (c.of.dict() == nullptr) fail("Can only get item pairs from a mapping.");
  Args none;
  return c.heap().list(c.in.items_of(c.in.call(method(c.in, c.of, "items"), none)), SeqKind::generator);
}

Value reverse(const FilterCall& c) {
  if (c.of.text() != nullptr) {
    return slice_of(c.heap(), c.of, Value::none(), Value::none(), Value(int64_t{-1}));
  }
  std::vector<Value> all = c.in.items_of(c.of);
  std::reverse(all.begin(), all.end());
  return c.heap().list(std::move(all), SeqKind::generator);
}

// What items are sorted, grouped and made unique by: texts without regard to case, unless it is asked for.
Value sort_key(const FilterCall& c, const Value& v, const Value* attribute, bool case_sensitive) {
  Value key = attribute != nullptr ? nested_attribute(c.in, v, *attribute) : v;
  if (case_sensitive || key.text() == nullptr) return key;
  return c.heap().text(python::lower(*key.text()));
}

std::vector<Value> sorted(const FilterCall& c, const std::vector<Value>& all, const std::vector<Value>& keys, bool reverse) {
  std::vector<size_t> order(all.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  c.heap().charge(all.size() * sizeof(size_t));
  // Every pair is compared one way only, so that values without an order fail and never confuse the sort.
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    c.heap().step(1 + std::min(keys[a].weight(), keys[b].weight()));
    const int way = compare(keys[a], keys[b], "<");
    if (way == 2) fail("values that are not numbers cannot be sorted");
    return reverse ? way > 0 : way < 0;
  });
  std::vector<Value> out;
  for (const size_t i : order) out.push_back(all[i]);
  return out;
}

// The attributes "a,b" that items are sorted by, first by a.
std::vector<Value> attributes_of(const FilterCall& c, const Value& list) {
  if (list.text() == nullptr) return {list};
  std::vector<Value> out;
  for (const std::string_view one : python::split(*list.text(), ",", -1)) out.push_back(c.heap().text(std::string(one)));
  return out;
}

Value sort(const FilterCall& c) {
  const Params p = c.params({"reverse", "case_sensitive", "attribute"});
  const std::vector<Value> all = c.in.items_of(c.of);
  const std::vector<Value> attributes = p.given(2) ? attributes_of(c, p.at(2)) : std::vector<Value>();
  std::vector<Value> keys;  // lists: equal parts are not asked for their order, missing ones among them
  for (const Value& v : all) {
    std::vector<Value> parts;
    for (const Value& attribute : attributes) parts.push_back(sort_key(c, v, &attribute, p.flag(1, false)));
    if (attributes.empty()) parts.push_back(sort_key(c, v, nullptr, p.flag(1, false)));
    keys.push_back(c.heap().list(std::move(parts)));
  }
  return c.heap().list(sorted(c, all, keys, p.flag(0, false)));
}

Value dict_sort(const FilterCall& c) {
  const Params p = c.params({"case_sensitive", "by", "reverse"});
  const std::string by = p.text(1, "key");
  if (by != "key" && by != "value") fail("You can only sort by either \"key\" or \"value\"");
  Args none;
  if (c.of.dict() == nullptr) fail("dictsort needs a mapping");
  const std::vector<Value> all = c.in.items_of(c.in.call(method(c.in, c.of, "items"), none));
  std::vector<Value> keys;
  for (const Value& v : all) keys.push_back(sort_key(c, v.seq()->items[by == "key" ? 0 : 1], nullptr, p.flag(0, false)));
  return c.heap().list(sorted(c, all, keys, p.flag(2, false)));
}

Value unique(const FilterCall& c) {
  const Params p = c.params({"case_sensitive", "attribute"});
  std::vector<Value> out;
  Dict seen;
  for (const Value& v : c.in.items_of(c.of)) {
    const Value key = sort_key(c, v, p.given(1) ? &p.at(1) : nullptr, p.flag(0, false));
    if (seen.find(key) != nullptr) continue;
    c.heap().charge(key.weight() * 64 + 64);
    seen.set(key, Value::none());
    out.push_back(v);
  }
  return c.heap().list(std::move(out), SeqKind::generator);
}

Value group_by(const FilterCall& c) {
  const Params p = c.params({"attribute", "default", "case_sensitive"}, 1);
  const std::vector<Value> all = c.in.items_of(c.of);
  std::vector<Value> keys;
  const Value* otherwise = p.given(1) ? &p.at(1) : nullptr;
  for (const Value& v : all) {
    Value key = nested_attribute(c.in, v, p.at(0), otherwise);
    if (!p.flag(2, false) && key.text() != nullptr) key = c.heap().text(python::lower(*key.text()));
    keys.push_back(std::move(key));
  }
  const std::vector<Value> in_order = sorted(c, all, keys, false);
  const std::vector<Value> keys_in_order = sorted(c, keys, keys, false);
  std::vector<Value> groups;
  for (size_t i = 0; i < in_order.size();) {
    std::vector<Value> members;
    const size_t begin = i;
    for (; i < in_order.size() && equal(keys_in_order[begin], keys_in_order[i]); ++i) members.push_back(in_order[i]);
    const Value name = nested_attribute(c.in, members[0], p.at(0), otherwise);
    Seq pair = *c.heap().list({name, c.heap().list(std::move(members))}, SeqKind::tuple).seq();
    pair.is_group = true;
    groups.emplace_back(std::make_shared<const Seq>(std::move(pair)));
  }
  return c.heap().list(std::move(groups));
}

Value sum(const FilterCall& c) {
  const Params p = c.params({"attribute", "start"});
  Value total = p.has(1) ? p.at(1) : Value(int64_t{0});
  for (const Value& v : c.in.items_of(c.of)) total = binary(c.heap(), "+", total, p.given(0) ? nested_attribute(c.in, v, p.at(0)) : v);
  return total;
}

Value extreme(const FilterCall& c) {
  const Params p = c.params({"case_sensitive", "attribute"});
  const std::vector<Value> all = c.in.items_of(c.of);
  if (all.empty()) return Value::undefined("No aggregated item, sequence was empty.");
  const Value* attribute = p.given(1) ? &p.at(1) : nullptr;
  size_t best = 0;
  Value best_key = sort_key(c, all[0], attribute, p.flag(0, false));
  for (size_t i = 1; i < all.size(); ++i) {
    Value key = sort_key(c, all[i], attribute, p.flag(0, false));
    c.heap().step(key.weight());
    const int way = compare(key, best_key, c.name == "min" ? "<" : ">");
    if (c.name == "min" ? way >= 0 : way <= 0) continue;
    best = i;
    best_key = std::move(key);
  }
  return all[best];
}

Value batch(const FilterCall& c) {
  const Params p = c.params({"linecount", "fill_with"}, 1);
  const int64_t size = p.integer(0, 0);
  if (size < 1) fail("batch needs a size above 0");
  std::vector<Value> out;
  std::vector<Value> line;
  for (const Value& v : c.in.items_of(c.of)) {
    if (static_cast<int64_t>(line.size()) == size) out.push_back(c.heap().list(std::move(line))), line.clear();
    line.push_back(v);
  }
  if (!line.empty()) {
    if (p.given(1)) {
      c.heap().charge(static_cast<uint64_t>(size) * sizeof(Value));
      line.resize(static_cast<size_t>(size), p.at(1));
    }
    out.push_back(c.heap().list(std::move(line)));
  }
  return c.heap().list(std::move(out), SeqKind::generator);
}

Value slice(const FilterCall& c) {
  const Params p = c.params({"slices", "fill_with"}, 1);
  const std::vector<Value> all = c.in.items_of(c.of);
  const int64_t num_slices = p.integer(0, 0);
  if (num_slices == 0) fail("integer division or modulo by zero");
  if (num_slices < 0) return c.heap().list({}, SeqKind::generator);
  c.heap().charge(static_cast<uint64_t>(num_slices) * 64);
  const auto count = static_cast<size_t>(num_slices);
  std::vector<Value> out;
  for (size_t i = 0, at = 0; i < count; ++i) {
    const bool longer = i < all.size() % count;
    const size_t size = all.size() / count + (longer ? 1 : 0);
    std::vector<Value> part(all.begin() + static_cast<std::ptrdiff_t>(at), all.begin() + static_cast<std::ptrdiff_t>(at + size));
    if (!longer && p.given(1)) part.push_back(p.at(1));
    out.push_back(c.heap().list(std::move(part)));
    at += size;
  }
  return c.heap().list(std::move(out), SeqKind::generator);
}

// map and select look at their input only if it is true: none and 0 are as good as empty.
std::vector<Value> items_if_true(const FilterCall& c) { return c.of.truth() ? c.in.items_of(c.of) : std::vector<Value>(); }

Value map(const FilterCall& c) {
  std::vector<Value> out;
  const std::vector<Value> all = items_if_true(c);
  const bool by_attribute = c.args.positional.empty();
  const Params p = by_attribute ? c.params({"attribute", "default"}) : Params(c.name, {}, {"attribute", "default"});
  if (by_attribute && !p.has(0)) fail("map requires a filter argument");
  for (const Value& v : all) {
    c.heap().step();
    if (by_attribute) {
      out.push_back(nested_attribute(c.in, v, p.at(0), p.given(1) ? &p.at(1) : nullptr));
      continue;
    }
    Args rest = c.args;
    const Value filter = rest.positional[0];
    rest.positional.erase(rest.positional.begin());
    if (filter.text() == nullptr) fail("map requires the name of a filter");
    out.push_back(c.in.filter(*filter.text(), v, rest));
  }
  return c.heap().list(std::move(out), SeqKind::generator);
}

// select, reject, selectattr, rejectattr: by a test, or by truth.
Value select(const FilterCall& c) {
  const bool by_attribute = c.name.ends_with("attr");
  const bool keep = c.name.starts_with("select");
  const size_t fixed = by_attribute ? 1 : 0;
  if (c.args.positional.size() < fixed) fail(c.name + " needs the name of an attribute");
  std::vector<Value> out;
  for (const Value& v : items_if_true(c)) {
    c.heap().step();
    const Value what = by_attribute ? nested_attribute(c.in, v, c.args.positional[0]) : v;
    bool holds = what.truth();
    if (c.args.positional.size() > fixed) {
      const Value test = c.args.positional[fixed];
      if (test.text() == nullptr) fail(c.name + " needs the name of a test");
      Args rest;
      rest.positional.assign(c.args.positional.begin() + static_cast<std::ptrdiff_t>(fixed) + 1, c.args.positional.end());
      rest.named = c.args.named;
      holds = c.in.test(*test.text(), what, rest);
    }
    if (holds == keep) out.push_back(v);
  }
  return c.heap().list(std::move(out), SeqKind::generator);
}

Value default_value(const FilterCall& c) {
  const Params p = c.params({"default_value", "boolean"});
  const bool missing = c.of.is_undefined() || (p.flag(1, false) && !c.of.truth());
  if (!missing) return c.of;
  return p.has(0) ? p.at(0) : c.heap().text("");
}

Value attribute(const FilterCall& c) {
  const Params p = c.params({"name"}, 1);
  require_defined(c.of);
  if (c.of.object() != nullptr) return c.in.attribute(c.of, p.text(0));
  Value bound = method(c.in, c.of, p.text(0));  // attributes only, no items
  if (!bound.is_nothing()) return bound;
  if (p.text(0).starts_with("__")) return Value::unsafe(p.text(0), c.of);
  return Value::undefined(std::string("'") + c.of.type_name() + " object' has no attribute '" + p.text(0) + "'");
}

constexpr std::array<FilterEntry, 26> kFilters = {{
    {"length", length}, {"count", length},      {"first", first_or_last}, {"last", first_or_last},    {"join", join},       {"list", list},
    {"items", items},   {"reverse", reverse},   {"sort", sort},           {"dictsort", dict_sort},    {"unique", unique},   {"groupby", group_by},
    {"sum", sum},       {"min", extreme},       {"max", extreme},         {"batch", batch},           {"map", map},         {"select", select},
    {"reject", select}, {"selectattr", select}, {"rejectattr", select},   {"default", default_value}, {"d", default_value}, {"attr", attribute},
    {"slice", slice},
}};

}  // namespace

std::span<const FilterEntry> sequence_filters() { return kFilters; }

FilterCode find_filter(const std::string& name) {
  for (const auto& group : {text_filters(), layout_filters(), markup_filters(), sequence_filters()}) {
    for (const FilterEntry& e : group) {
      if (e.name != nullptr && name == e.name) return e.code;
    }
  }
  return nullptr;
}

Value Interpreter::filter(const std::string& name, const Value& of, Args& args) {
  const Level level(*this);
  const FilterCode code = find_filter(name);
  if (code == nullptr) fail(name == "random" || name == "urlize" ? "the filter '" + name + "' is not supported" : "No filter named '" + name + "'.");
  heap_.step();
  return code({*this, name, of, args});
}

}  // namespace moegen::jinja
