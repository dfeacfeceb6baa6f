#include <algorithm>

#include "tokenizer/jinja_format.h"
#include "tokenizer/jinja_interpreter.h"
#include "tokenizer/jinja_operators.h"
#include "tokenizer/unicode.h"

namespace moegen::jinja {

Value Interpreter::evaluate(const Expr& e) {
  const Level level(*this);
  heap_.step();
  line_ = e.line;
  switch (e.kind) {
    case ExprKind::constant:
      return e.value;
    case ExprKind::name:
      return lookup(e.name);
    case ExprKind::list:
    case ExprKind::tuple:
    case ExprKind::dict:
      return collection(e);
    case ExprKind::negative:
    case ExprKind::positive:
      return unary(e);
    case ExprKind::logical_not:
      return Value(!evaluate(*e.items[0]).truth());
    case ExprKind::logical_and:
    case ExprKind::logical_or:
      return logical(e);
    case ExprKind::binary: {
      const Value left = evaluate(*e.items[0]);
      return binary(heap_, e.name, left, evaluate(*e.items[1]));
    }
    case ExprKind::compare:
      return comparison(e);
    case ExprKind::concat:
      return concatenation(e);
    case ExprKind::condition:
      if (evaluate(*e.items[1]).truth()) return evaluate(*e.items[0]);
      if (e.items[2]) return evaluate(*e.items[2]);
      return Value::undefined("the inline if-expression evaluated to false and no else section was defined.");
    case ExprKind::attribute:
      return attribute(evaluate(*e.items[0]), e.name);
    case ExprKind::item: {
      const Value of = evaluate(*e.items[0]);
      return item(of, evaluate(*e.items[1]));
    }
    case ExprKind::slice:
      return slice(e);
    case ExprKind::call:
      return call(e, nullptr);
    case ExprKind::filter:
    case ExprKind::test:
      return filter_or_test(e);
  }
  return {};
}

Value Interpreter::unary(const Expr& e) {
  const Value v = evaluate(*e.items[0]);
  if (const double* d = v.real()) return Value(e.kind == ExprKind::negative ? -*d : *d);
  int64_t i = 0;
  if (!v.as_integer(i)) {
    require_defined(v);
    fail(std::string("bad operand type for unary ") + (e.kind == ExprKind::negative ? "-" : "+") + ": '" + v.type_name() + "'");
  }
  return e.kind == ExprKind::negative ? binary(heap_, "-", Value(int64_t{0}), Value(i)) : Value(i);
}

Value Interpreter::logical(const Expr& e) {
  const bool until = e.kind == ExprKind::logical_or;
  Value v;
  for (const ExprPtr& operand : e.items) {
    v = evaluate(*operand);
    if (v.truth() == until) break;
  }
  return v;
}

Value Interpreter::comparison(const Expr& e) {
  Value left = evaluate(*e.items[0]);
  for (size_t i = 0; i < e.ops.size(); ++i) {
    const std::string& op = e.ops[i];
    Value right = evaluate(*e.items[i + 1]);
    bool holds = false;
    if (op == "in" || op == "not in") {
      holds = contains(heap_, right, left) == (op == "in");
    } else {
      heap_.step(std::min(left.weight(), right.weight()));
      if (op == "==" || op == "!=") {
        holds = equal(left, right) == (op == "==");
      } else {
        const int order = compare(left, right, op.c_str());
        holds = order != 2 && (op[0] == '<' ? order < 0 : order > 0);
        holds = holds || (op.size() == 2 && order == 0);
      }
    }
    if (!holds) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Value Interpreter::concatenation(const Expr& e) {
  std::string all;
  for (const ExprPtr& operand : e.items) {
    const Value v = evaluate(*operand);
    if (v.text() != nullptr) heap_.check_text(all.size() + v.text()->size());
    all += to_text(heap_, v);
  }
  return heap_.text(std::move(all));
}

Value Interpreter::collection(const Expr& e) {
  std::vector<Value> values;
  values.reserve(e.items.size());
  for (const ExprPtr& i : e.items) values.push_back(evaluate(*i));
  if (e.kind != ExprKind::dict) return heap_.list(std::move(values), e.kind == ExprKind::list ? SeqKind::list : SeqKind::tuple);
  Dict d;
  for (size_t i = 0; i + 1 < values.size(); i += 2) d.set(std::move(values[i]), std::move(values[i + 1]));
  return heap_.dict(std::move(d));
}

Value Interpreter::slice(const Expr& e) {
  Value part[4];
  for (size_t i = 0; i < 4; ++i) part[i] = e.items[i] ? evaluate(*e.items[i]) : Value::none();
  return slice_of(heap_, part[0], part[1], part[2], part[3]);
}

Args Interpreter::arguments(const Expr& e) {
  Args args;
  for (size_t i = 1; i < e.items.size(); ++i) args.positional.push_back(evaluate(*e.items[i]));
  if (e.star) {
    for (Value& v : items_of(evaluate(*e.star))) args.positional.push_back(std::move(v));
  }
  for (const auto& [name, value] : e.named) args.named.emplace_back(name, evaluate(*value));
  if (e.star_star) {
    const Value v = evaluate(*e.star_star);
    if (v.dict() == nullptr) fail(std::string("argument after ** must be a mapping, not ") + v.type_name());
    for (const auto& [key, value] : v.dict()->items()) {
      if (key.text() == nullptr) fail("keywords must be strings");
      args.named.emplace_back(*key.text(), value);
    }
  }
  return args;
}

Value Interpreter::call(const Expr& e, const Value* caller) {
  const Value callee = evaluate(*e.items[0]);
  Args args = arguments(e);
  if (caller != nullptr) args.named.emplace_back("caller", *caller);
  line_ = e.line;
  return call(callee, args);
}

Value Interpreter::call(const Value& callee, Args& args) {
  require_defined(callee);
  if (callee.object() == nullptr || !callee.object()->callable()) fail(std::string("'") + callee.type_name() + "' object is not callable");
  return callee.object()->call(*this, args);
}

Value Interpreter::filter_or_test(const Expr& e) {
  const Value of = evaluate(*e.items[0]);
  Args args = arguments(e);
  line_ = e.line;
  if (e.kind == ExprKind::filter) return filter(e.name, of, args);
  return Value(test(e.name, of, args));
}

Value Interpreter::attribute(const Value& of, const std::string& name) {
  require_defined(of);
  if (name.size() > 4 && name.starts_with("__") && name.ends_with("__")) return Value::unsafe(name, of);
  if (of.object() != nullptr) return of.object()->attribute(*this, name);
  if (of.seq() != nullptr && of.seq()->is_group && (name == "grouper" || name == "list")) return of.seq()->items[name == "grouper" ? 0 : 1];
  Value bound = method(*this, of, name);
  if (!bound.is_nothing()) return bound;
  if (of.dict() != nullptr) {
    if (const Value* v = of.dict()->find(name)) return *v;
  }
  if (of.is_none()) return Value::undefined(std::string("'None' has no attribute '") + name + "'");
  return Value::undefined(std::string("'") + of.type_name() + " object' has no attribute '" + name + "'");
}

Value Interpreter::item(const Value& of, const Value& key) {
  require_defined(of);
  const bool hashable = key.dict() == nullptr && (key.seq() == nullptr || key.seq()->kind == SeqKind::tuple);
  if (const Dict* d = of.dict(); d != nullptr && hashable) {
    if (const Value* v = d->find(key)) return *v;
  }
  int64_t index = 0;
  if (key.as_integer(index)) {
    const Seq* s = of.seq();
    const bool indexed = s != nullptr && (s->kind == SeqKind::list || s->kind == SeqKind::tuple || s->kind == SeqKind::range);
    if (indexed) {
      const auto size = static_cast<int64_t>(s->items.size());
      if (index < size && index >= -size) return s->items[static_cast<size_t>(index < 0 ? index + size : index)];
    } else if (const std::string* t = of.text()) {
      const auto size = static_cast<int64_t>(text::count_chars(*t));
      heap_.step(1 + t->size() / 16);
      if (index < size && index >= -size) return slice_of(heap_, of, key, index == -1 ? Value::none() : Value(index + 1), Value::none());
    }
    return Value::undefined(of.type_name() + " object has no element " + std::to_string(index));
  }
  if (key.text() != nullptr) {
    if (of.dict() == nullptr || !method(*this, of, *key.text()).is_nothing()) return attribute(of, *key.text());
    return Value::undefined(std::string("'dict object' has no attribute '") + *key.text() + "'");
  }
  return Value::undefined(of.type_name() + " object has no element " + to_repr(heap_, key));
}

}  // namespace moegen::jinja
