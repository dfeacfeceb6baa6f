#include <algorithm>
#include <array>

#include "tokenizer/jinja_filters.h"
#include "tokenizer/jinja_operators.h"
#include "tokenizer/python_text.h"

namespace moegen::jinja {
namespace {

bool is_sequence(const Value& v) {
  if (const Seq* s = v.seq()) return s->kind == SeqKind::list || s->kind == SeqKind::tuple || s->kind == SeqKind::range;
  return v.text() != nullptr || v.dict() != nullptr || v.is_undefined();
}

bool is_one_of(const std::string& name, std::initializer_list<const char*> names) {
  return std::any_of(names.begin(), names.end(), [&](const char* n) { return name == n; });
}

// Tests of the value alone; false in `known` for another name.
bool of_value(const std::string& name, const Value& v, bool& known) {
  known = true;
  if (name == "defined") return !v.is_undefined();
  if (name == "undefined") return v.is_undefined();
  if (name == "none") return v.is_none();
  if (name == "boolean") return v.boolean() != nullptr;
  if (name == "true") return v.boolean() != nullptr && *v.boolean();
  if (name == "false") return v.boolean() != nullptr && !*v.boolean();
  if (name == "integer") return v.integer() != nullptr;
  if (name == "float") return v.real() != nullptr;
  if (name == "number") return v.is_number();
  if (name == "string") return v.text() != nullptr;
  if (name == "mapping") return v.dict() != nullptr;
  if (name == "iterable") return v.seq() != nullptr || v.dict() != nullptr || v.text() != nullptr || v.is_undefined();
  if (name == "sequence") return is_sequence(v);
  if (name == "callable") return v.is_undefined() || (v.object() != nullptr && v.object()->callable());
  if (name == "escaped") return v.is_markup();
  known = false;
  return false;
}

bool is_with_other(const std::string& name) {
  return is_one_of(name, {"eq", "equalto", "==", "ne", "!=", "lt", "lessthan", "<", "le", "<=", "gt", "greaterthan", ">", "ge", ">=", "in", "sameas",
                          "divisibleby"});
}

// Tests that compare; by their names and by the operators.
bool compared(Interpreter& in, const std::string& name, const Value& a, const Value& b) {
  in.heap().step(std::min(a.weight(), b.weight()));
  if (is_one_of(name, {"eq", "equalto", "=="})) return equal(a, b);
  if (is_one_of(name, {"ne", "!="})) return !equal(a, b);
  if (is_one_of(name, {"lt", "lessthan", "<"})) return compare(a, b, "<") == -1;
  if (is_one_of(name, {"le", "<="})) return compare(a, b, "<=") <= 0;
  if (is_one_of(name, {"gt", "greaterthan", ">"})) return compare(a, b, ">") == 1;
  const int order = compare(a, b, ">=");
  return order == 0 || order == 1;
}

bool same(const Value& a, const Value& b) {
  if (a.data().index() != b.data().index()) return false;
  if (a.seq() != nullptr || a.dict() != nullptr || a.object() != nullptr)
    return a.seq() == b.seq() && a.dict() == b.dict() && a.object() == b.object();
  return equal(a, b);
}

bool divides(Interpreter& in, const Value& v, const Value& by) { return equal(binary(in.heap(), "%", v, by), Value(int64_t{0})); }

}  // namespace

bool Interpreter::test(const std::string& name, const Value& of, Args& args) {
  const Level level(*this);
  heap_.step();
  bool known = false;
  const bool holds = of_value(name, of, known);
  if (known) {
    const Params p(name, args, {});
    return holds;
  }
  if (name == "odd" || name == "even") {
    const Params p(name, args, {});
    return equal(binary(heap_, "%", of, Value(int64_t{2})), Value(int64_t{name == "odd" ? 1 : 0}));
  }
  if (name == "upper" || name == "lower") {
    const std::string s = text_of(of);
    heap_.charge(s.size() * 4);
    return python::is(s, name == "upper" ? python::Is::upper : python::Is::lower);
  }
  if (name == "filter" || name == "test") {
    static_cast<void>(Dict().find(of));  // throws for what cannot be a key
    if (of.text() == nullptr) return false;
    bool is_test = false;
    of_value(*of.text(), of, is_test);
    return name == "filter" ? find_filter(*of.text()) != nullptr
                            : is_test || is_one_of(*of.text(), {"odd", "even", "upper", "lower", "filter", "test"}) || is_with_other(*of.text());
  }
  if (is_with_other(name)) {
    const Params p(name, args, {"other"}, 1);
    if (name == "in") return contains(heap_, p.at(0), of);
    if (name == "sameas") return same(of, p.at(0));
    if (name == "divisibleby") return divides(*this, of, p.at(0));
    return compared(*this, name, of, p.at(0));
  }
  fail(std::string("No test named '") + name + "'.");
}

}  // namespace moegen::jinja
