#include "tokenizer/jinja_value.h"

#include <algorithm>
#include <cmath>

#include "tokenizer/jinja_operators.h"

namespace moegen::jinja {
namespace {

constexpr uint32_t kMaxDepth = 600;       // of containers in containers: their destructors recurse
constexpr uint64_t kMaxWeight = 1 << 24;  // a list that holds itself twice, thirty times over, is small but long to walk
constexpr uint64_t kMaxKeyWeight = 1 << 10;

template <typename... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <typename... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;  // clang 14, which tools/lint runs, does not deduce it

const char* name_of(SeqKind kind) {
  switch (kind) {
    case SeqKind::list:
      return "list";
    case SeqKind::tuple:
      return "tuple";
    case SeqKind::generator:
      return "generator";
    case SeqKind::range:
      return "range";
    case SeqKind::keys:
      return "dict_keys";
    case SeqKind::values:
      return "dict_values";
    case SeqKind::items:
      return "dict_items";
  }
  return "list";
}

bool equal_dicts(const Dict& a, const Dict& b) {
  return a.size() == b.size() && std::all_of(a.items().begin(), a.items().end(), [&](const Dict::Item& item) {
           const Value* other = b.find(item.first);
           return other != nullptr && equal(item.second, *other);
         });
}

}  // namespace

void fail(const std::string& message) { throw TemplateError(message); }

bool Value::truth() const {
  return std::visit(Overloaded{[](const Undefined&) { return false; }, [](const None&) { return false; }, [](bool v) { return v; },
                               [](int64_t v) { return v != 0; }, [](double v) { return v != 0; },
                               [](const std::shared_ptr<const std::string>& v) { return !v->empty(); },
                               [](const std::shared_ptr<const Seq>& v) { return v->is_generator() || !v->items.empty(); },
                               [](const std::shared_ptr<const Dict>& v) { return v->size() != 0; },
                               [](const std::shared_ptr<Object>&) { return true; }, [](const Markup& v) { return !v.text->empty(); }},
                    data_);
}

bool Value::as_integer(int64_t& v) const {
  if (const bool* b = boolean()) return v = *b ? 1 : 0, true;
  if (const int64_t* i = integer()) return v = *i, true;
  return false;
}

bool Value::as_real(double& v) const {
  if (const double* d = real()) return v = *d, true;
  int64_t i = 0;
  if (!as_integer(i)) return false;
  v = static_cast<double>(i);
  return true;
}

uint32_t Value::depth() const {
  if (const Seq* s = seq()) return s->depth;
  if (const Dict* d = dict()) return d->depth;
  if (const Object* o = object()) return o->depth();
  return 0;
}

uint64_t Value::weight() const {
  if (const std::string* s = text()) return 1 + s->size() / 64;
  if (const Seq* s = seq()) return s->weight;
  if (const Dict* d = dict()) return d->weight;
  return 1;
}

std::string Value::type_name() const {
  return std::visit(
      Overloaded{[](const Undefined&) -> std::string { return "Undefined"; }, [](const None&) -> std::string { return "NoneType"; },
                 [](bool) -> std::string { return "bool"; }, [](int64_t) -> std::string { return "int"; },
                 [](double) -> std::string { return "float"; }, [](const std::shared_ptr<const std::string>&) -> std::string { return "str"; },
                 [](const std::shared_ptr<const Seq>& v) -> std::string { return name_of(v->kind); },
                 [](const std::shared_ptr<const Dict>&) -> std::string { return "dict"; },
                 [](const std::shared_ptr<Object>& v) { return v->type_name(); }, [](const Markup&) -> std::string { return "Markup"; }},
      data_);
}

namespace {

// Python's rule for keys; small ones only are looked into.
void require_hashable(const Value& key) {
  const SeqKind kind = key.seq() != nullptr ? key.seq()->kind : SeqKind::tuple;
  if (key.dict() != nullptr || kind == SeqKind::list || kind == SeqKind::keys || kind == SeqKind::items)
    fail("unhashable type: '" + key.type_name() + "'");
  if (key.weight() > kMaxKeyWeight) fail("a key of a dict is too large");
  if (key.seq() == nullptr) return;
  if (kind != SeqKind::tuple) return;
  for (const Value& part : key.seq()->items) require_hashable(part);
}

}  // namespace

size_t Dict::index_of(const Value& key) const {
  int64_t number = 0;
  double real = 0;
  if (const std::string* s = key.text()) {
    const auto it = by_text_.find(*s);
    return it == by_text_.end() ? items_.size() : it->second;
  }
  if (key.as_integer(number) || (key.as_real(real) && std::nearbyint(real) == real && std::abs(real) < 9e15)) {
    const auto it = by_number_.find(key.real() != nullptr ? static_cast<int64_t>(real) : number);
    return it == by_number_.end() ? items_.size() : it->second;
  }
  require_hashable(key);
  for (size_t i = 0; others_ > 0 && i < items_.size(); ++i) {
    if (equal(items_[i].first, key)) return i;
  }
  return items_.size();
}

void Dict::set(Value key, Value value) {
  const size_t i = index_of(key);
  depth = std::max({depth, key.depth() + 1, value.depth() + 1});
  weight += key.weight() + value.weight();
  if (i < items_.size()) {
    items_[i].second = std::move(value);
    return;
  }
  int64_t number = 0;
  double real = 0;
  if (const std::string* s = key.text()) {
    by_text_.emplace(*s, i);
  } else if (key.as_integer(number)) {
    by_number_.emplace(number, i);
  } else if (key.as_real(real) && std::nearbyint(real) == real && std::abs(real) < 9e15) {
    by_number_.emplace(static_cast<int64_t>(real), i);
  } else {
    if (++others_ > 64) fail("too many keys of unusual types in one dict");
  }
  items_.emplace_back(std::move(key), std::move(value));
}

const Value* Dict::find(const Value& key) const {
  const size_t i = index_of(key);
  return i < items_.size() ? &items_[i].second : nullptr;
}

const Value* Dict::find(std::string_view key) const {
  const auto it = by_text_.find(std::string(key));
  return it == by_text_.end() ? nullptr : &items_[it->second].second;
}

Value Object::attribute(Interpreter&, const std::string& name) {
  return Value::undefined(std::string("'") + type_name() + " object' has no attribute '" + name + "'");
}
Value Object::call(Interpreter&, Args&) { fail(std::string("'") + type_name() + "' object is not callable"); }

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    int64_t x = 0;
    int64_t y = 0;
    if (a.as_integer(x) && b.as_integer(y)) return x == y;
    double p = 0;
    double q = 0;
    a.as_real(p);
    b.as_real(q);
    return p == q;
  }
  if (a.text() != nullptr && b.text() != nullptr) return *a.text() == *b.text();
  if (a.data().index() != b.data().index()) return false;
  if (const Seq* s = a.seq()) {
    const Seq* t = b.seq();
    if (s == t) return true;
    return s->kind == t->kind && !s->is_generator() && std::equal(s->items.begin(), s->items.end(), t->items.begin(), t->items.end(), equal);
  }
  if (const Dict* d = a.dict()) return d == b.dict() || equal_dicts(*d, *b.dict());
  return a.object() == b.object();  // both undefined, both none: two null pointers
}

int compare(const Value& a, const Value& b, const char* op) {
  double p = 0;
  double q = 0;
  int64_t x = 0;
  int64_t y = 0;
  if (a.as_integer(x) && b.as_integer(y)) return x < y ? -1 : x > y ? 1 : 0;
  if (a.as_real(p) && b.as_real(q)) return p < q ? -1 : p > q ? 1 : p == q ? 0 : 2;  // 2: not a number
  require_defined(a);
  require_defined(b);
  if (a.text() != nullptr && b.text() != nullptr) return a.text()->compare(*b.text()) < 0 ? -1 : *a.text() == *b.text() ? 0 : 1;
  const Seq* s = a.seq();
  const Seq* t = b.seq();
  if (s == nullptr || t == nullptr || s->kind != t->kind || (s->kind != SeqKind::list && s->kind != SeqKind::tuple)) {
    fail(std::string("'") + op + "' not supported between instances of '" + a.type_name() + "' and '" + b.type_name() + "'");
  }
  for (size_t i = 0; i < std::min(s->items.size(), t->items.size()); ++i) {
    if (!equal(s->items[i], t->items[i])) return compare(s->items[i], t->items[i], op);
  }
  return s->items.size() < t->items.size() ? -1 : s->items.size() > t->items.size() ? 1 : 0;
}

void Heap::spent(const char* what) { fail(std::string("the template takes too much: its budget of ") + what + " is spent"); }

Heap::~Heap() {
  for (const auto& o : owned_) o->clear();
}

std::shared_ptr<const std::string> Heap::stored(std::string s) {
  check_text(s.size());
  charge(s.size() + 48);
  return std::make_shared<const std::string>(std::move(s));
}

Value Heap::text(std::string s) { return Value(stored(std::move(s))); }

Value Heap::markup(std::string s) { return Value(Markup{stored(std::move(s))}); }

Value Heap::list(std::vector<Value> items, SeqKind kind) {
  charge(items.size() * sizeof(Value) + 64);
  auto seq = std::make_shared<Seq>();
  for (const Value& v : items) {
    seq->depth = std::max(seq->depth, v.depth() + 1);
    seq->weight += v.weight();
  }
  if (seq->depth > kMaxDepth) fail("containers are nested too deep");
  if (seq->weight > kMaxWeight) fail("a value is too large");
  seq->items = std::move(items);
  seq->kind = kind;
  return Value(std::shared_ptr<const Seq>(std::move(seq)));
}

Value Heap::dict(Dict dict) {
  charge(dict.size() * 4 * sizeof(Value) + 128);
  if (dict.depth > kMaxDepth) fail("containers are nested too deep");
  if (dict.weight > kMaxWeight) fail("a value is too large");
  return Value(std::make_shared<const Dict>(std::move(dict)));
}

Value Heap::object(std::shared_ptr<Object> object, bool has_state) {
  charge(256);
  if (object->depth() > kMaxDepth) fail("values are nested too deep");
  if (has_state) own(object);
  return Value(std::move(object));
}

}  // namespace moegen::jinja
