#include "tokenizer/jinja_format.h"

#include <algorithm>

#include "tokenizer/python_text.h"

namespace moegen::jinja {
namespace {

// Depth is bounded where containers are made.
class ReprWriter {
 public:
  explicit ReprWriter(Heap& heap) : heap_(heap) {}
  std::string out;

  void write(const Value& v) {
    const size_t before = out.size();
    if (const std::string* s = v.text()) {
      out += v.is_markup() ? "Markup(" + python::repr(*s) + ")" : python::repr(*s);
    } else if (const Seq* seq = v.seq()) {
      sequence(*seq);
    } else if (const Dict* dict = v.dict()) {
      mapping(*dict);
    } else if (v.is_none()) {
      out += "None";
    } else if (const bool* b = v.boolean()) {
      out += *b ? "True" : "False";
    } else if (const int64_t* i = v.integer()) {
      out += std::to_string(*i);
    } else if (const double* d = v.real()) {
      out += python::repr(*d);
    } else if (v.is_undefined()) {
      out += "Undefined";
    } else {
      object(*v.object());
    }
    if (v.seq() == nullptr && v.dict() == nullptr) heap_.charge(out.size() - before + 1);
  }

 private:
  void sequence(const Seq& s) {
    const auto kind = s.kind;
    if (kind == SeqKind::generator) {
      out += "<generator object>";
      return;
    }
    if (kind == SeqKind::range) {
      const auto at = [&](size_t i) { return *s.items[i].integer(); };
      const int64_t first = s.items.empty() ? 0 : at(0);
      const int64_t step = s.items.size() > 1 ? at(1) - first : 1;
      out += std::string("range(") + std::to_string(first) + ", " + std::to_string(s.items.empty() ? 0 : at(s.items.size() - 1) + step) +
             (step == 1 ? "" : std::string(", ") + std::to_string(step)) + ")";
      return;
    }
    const bool view = kind == SeqKind::keys || kind == SeqKind::values || kind == SeqKind::items;
    if (view) out += kind == SeqKind::keys ? "dict_keys(" : kind == SeqKind::values ? "dict_values(" : "dict_items(";
    out += kind == SeqKind::tuple ? '(' : '[';
    for (size_t i = 0; i < s.items.size(); ++i) {
      if (i > 0) out += ", ";
      write(s.items[i]);
    }
    if (kind == SeqKind::tuple && s.items.size() == 1) out += ',';
    out += kind == SeqKind::tuple ? ')' : ']';
    if (view) out += ')';
  }

  void object(const Object& o) {
    out.append("<").append(o.type_name());
    if (o.fields() != nullptr) {
      const bool inside = std::find(open_.begin(), open_.end(), &o) != open_.end();
      if (open_.size() >= kMaxOpen) fail("namespaces are nested too deep");
      open_.push_back(&o);
      out += ' ';
      inside ? void(out += "{...}") : mapping(*o.fields());
      open_.pop_back();
    }
    out += '>';
  }

  void mapping(const Dict& d) {
    out += '{';
    for (const auto& [key, value] : d.items()) {
      if (&key != &d.items()[0].first) out += ", ";
      write(key);
      out += ": ";
      write(value);
    }
    out += '}';
  }

  static constexpr size_t kMaxOpen = 8;  // our stack
  Heap& heap_;
  std::vector<const Object*> open_;  // namespaces that are being written: they may hold themselves
};

class JsonWriter {
 public:
  JsonWriter(Heap& heap, const JsonStyle& style) : heap_(heap), style_(style) {}
  std::string out;

  void write(const Value& v, size_t depth) {
    const size_t before = out.size();
    if (const std::string* s = v.text()) {
      python::append_json(out, *s, style_.ensure_ascii);
    } else if (const Seq* seq = v.seq()) {
      sequence(v, *seq, depth);
      return;
    } else if (const Dict* dict = v.dict()) {
      mapping(*dict, depth);
      return;
    } else if (v.is_none() || v.is_number()) {
      out += scalar(v);
    } else {
      refuse(v);
    }
    heap_.charge(out.size() - before + 1);
  }

 private:
  [[noreturn]] static void refuse(const Value& v) { fail(std::string("Object of type ") + v.type_name() + " is not JSON serializable"); }

  static std::string scalar(const Value& v) {
    if (v.is_none()) return "null";
    if (const bool* b = v.boolean()) return *b ? "true" : "false";
    if (const int64_t* i = v.integer()) return std::to_string(*i);
    const std::string s = python::repr(*v.real());
    return s == "nan" ? "NaN" : s == "inf" ? "Infinity" : s == "-inf" ? "-Infinity" : s;
  }

  void new_line(size_t depth) {
    if (style_.indent < 0) return;
    const std::string unit = style_.indent_text.empty() ? std::string(static_cast<size_t>(style_.indent), ' ') : style_.indent_text;
    heap_.charge(unit.size() * depth + 1);
    out += '\n';
    for (size_t i = 0; i < depth; ++i) out += unit;
  }

  void sequence(const Value& v, const Seq& s, size_t depth) {
    if (s.kind != SeqKind::list && s.kind != SeqKind::tuple) refuse(v);
    out += '[';
    for (size_t i = 0; i < s.items.size(); ++i) {
      if (i > 0) out += style_.item_separator;
      new_line(depth + 1);
      write(s.items[i], depth + 1);
    }
    if (!s.items.empty()) new_line(depth);
    out += ']';
    heap_.charge(2 + s.items.size());
  }

  void mapping(const Dict& d, size_t depth) {
    std::vector<const Dict::Item*> items;
    for (const Dict::Item& item : d.items()) items.push_back(&item);
    if (style_.sort_keys) {
      std::stable_sort(items.begin(), items.end(), [&](const Dict::Item* a, const Dict::Item* b) { return compare(a->first, b->first, "<") < 0; });
    }
    out += '{';
    for (size_t i = 0; i < items.size(); ++i) {
      const Value& key = items[i]->first;
      if (i > 0) out += style_.item_separator;
      new_line(depth + 1);
      if (key.text() == nullptr && !key.is_number() && !key.is_none())
        fail(std::string("keys must be str, int, float, bool or None, not ") + key.type_name());
      python::append_json(out, key.text() != nullptr ? *key.text() : scalar(key), style_.ensure_ascii);
      heap_.charge(key.weight() + 4);
      out += style_.key_separator;
      write(items[i]->second, depth + 1);
    }
    if (!items.empty()) new_line(depth);
    out += '}';
  }

  Heap& heap_;
  const JsonStyle& style_;
};

}  // namespace

std::string to_repr(Heap& heap, const Value& v) {
  ReprWriter w(heap);
  w.write(v);
  return std::move(w.out);
}

std::string to_text(Heap& heap, const Value& v) {
  if (const std::string* s = v.text()) return *s;
  if (v.is_undefined()) return "";
  return to_repr(heap, v);
}

std::string to_json(Heap& heap, const Value& v, const JsonStyle& style) {
  JsonWriter w(heap, style);
  w.write(v, 0);
  return std::move(w.out);
}

}  // namespace moegen::jinja
