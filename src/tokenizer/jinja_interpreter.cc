#include "tokenizer/jinja_interpreter.h"

#include <algorithm>

#include "tokenizer/jinja_format.h"
#include "tokenizer/jinja_operators.h"
#include "tokenizer/jinja_parser.h"
#include "tokenizer/unicode.h"

namespace moegen::jinja {
namespace {

constexpr size_t kMaxLevel = 1000;  // of statements, expressions and macro calls inside each other: our stack

}  // namespace

const Value* Scope::find(const std::string& name) const {
  for (const Scope* s = this; s != nullptr; s = s->parent.get()) {
    for (const auto& [n, v] : s->variables) {
      if (n == name) return &v;
    }
  }
  return nullptr;
}

void Scope::set(const std::string& name, Value value) {
  for (auto& [n, v] : variables) {
    if (n == name) {
      v = std::move(value);
      return;
    }
  }
  variables.emplace_back(name, std::move(value));
}

/// A scope inside the current one, while this lives.
struct Interpreter::ScopeGuard {
  ScopeGuard(Interpreter& i, const std::shared_ptr<Scope>& parent) : interpreter(i), outer(i.scope_) {
    interpreter.heap_.charge(sizeof(Scope));
    interpreter.scope_ = std::make_shared<Scope>(parent);
  }
  explicit ScopeGuard(Interpreter& i) : ScopeGuard(i, i.scope_) {}
  ~ScopeGuard() { interpreter.scope_ = outer; }
  ScopeGuard(const ScopeGuard&) = delete;
  ScopeGuard& operator=(const ScopeGuard&) = delete;
  Interpreter& interpreter;
  std::shared_ptr<Scope> outer;
};

Interpreter::Level::Level(Interpreter& i) : interpreter(i) {
  if (++i.level_ > kMaxLevel) {
    --i.level_;
    fail("maximum recursion depth exceeded");
  }
}

Interpreter::~Interpreter() {
  for (const auto& s : captured_) s->variables.clear();
}

// A macro holds its scope, which holds the macro: all scopes that a macro can see are emptied at the end.
void Interpreter::capture(const std::shared_ptr<Scope>& scope) {
  for (std::shared_ptr<Scope> s = scope; s && !s->captured; s = s->parent) {
    s->captured = true;
    captured_.push_back(s);
  }
}

std::string Interpreter::render(const TemplateTree& tree, const Dict& context) {
  const auto globals = std::make_shared<Scope>(nullptr);
  for (const auto& [name, value] : context.items()) globals->variables.emplace_back(*name.text(), value);
  top_ = scope_ = std::make_shared<Scope>(globals);
  run(tree.body);
  return std::move(out_);
}

void Interpreter::write(std::string_view text) {
  heap_.charge(text.size());
  heap_.check_text(out_.size() + text.size());
  out_ += text;
}

std::string Interpreter::captured_output(const Body& body, Flow& flow) {
  std::string outer = std::move(out_);
  out_.clear();
  flow = run(body);
  std::string mine = std::move(out_);
  out_ = std::move(outer);
  return mine;
}

Interpreter::Flow Interpreter::run(const Body& body) {
  for (const auto& s : body) {
    const Flow flow = run(*s);
    if (flow != Flow::next) return flow;
  }
  return Flow::next;
}

Interpreter::Flow Interpreter::run(const Stmt& s) {
  const Level level(*this);
  heap_.step();
  line_ = s.line;
  switch (s.kind) {
    case StmtKind::data:
      write(s.text);
      break;
    case StmtKind::print:
      write(text_of(evaluate(*s.expr)));
      break;
    case StmtKind::conditional:
      return conditional(s);
    case StmtKind::loop:
      return loop(s, evaluate(*s.expr), 0);
    case StmtKind::set:
      assign(s.target, evaluate(*s.expr));
      break;
    case StmtKind::set_block:
    case StmtKind::filter_block:
      return text_block(s);
    case StmtKind::macro:
      capture(scope_);
      scope_->set(s.text, make_macro(*this, s, s.text, scope_));
      break;
    case StmtKind::call_block:
      call_block(s);
      break;
    case StmtKind::with:
      return with(s);
    case StmtKind::scoped: {
      const ScopeGuard guard(*this);
      return run(s.body);
    }
    case StmtKind::block: {
      const ScopeGuard guard(*this, s.recursive ? scope_ : top_);
      return run(s.body);
    }
    case StmtKind::break_loop:
      return Flow::break_loop;
    case StmtKind::continue_loop:
      return Flow::continue_loop;
  }
  return Flow::next;
}

Interpreter::Flow Interpreter::conditional(const Stmt& s) {
  for (const Branch& b : s.branches) {
    if (!b.condition || evaluate(*b.condition).truth()) return run(b.body);
  }
  return Flow::next;
}

// What a break or continue leaves is neither set nor written.
Interpreter::Flow Interpreter::text_block(const Stmt& s) {
  Value value;
  {
    const ScopeGuard guard(*this);
    Flow flow = Flow::next;
    value = heap_.text(captured_output(s.body, flow));
    if (flow != Flow::next) return flow;
    if (s.expr) {
      scope_->set(kBlockText, value);
      value = evaluate(*s.expr);
    }
  }
  if (s.kind == StmtKind::filter_block) {
    write(text_of(value));
  } else {
    assign(s.target, value);
  }
  return Flow::next;
}

Interpreter::Flow Interpreter::with(const Stmt& s) {
  std::vector<Value> values;
  for (const auto& [target, expr] : s.assignments) values.push_back(evaluate(*expr));
  const ScopeGuard guard(*this);
  for (size_t i = 0; i < values.size(); ++i) assign(s.assignments[i].first, values[i]);
  return run(s.body);
}

void Interpreter::call_block(const Stmt& s) {
  capture(scope_);
  const Value caller = make_macro(*this, s, "caller", scope_);
  write(text_of(call(*s.expr, &caller)));
}

void Interpreter::assign(const Target& target, const Value& value) {
  if (!target.parts.empty()) {
    const std::vector<Value> items = items_of(value);
    if (items.size() != target.parts.size()) {
      fail(items.size() < target.parts.size() ? "not enough values to unpack"
                                              : std::string("too many values to unpack (expected ") + std::to_string(target.parts.size()) + ")");
    }
    for (size_t i = 0; i < items.size(); ++i) assign(target.parts[i], items[i]);
    return;
  }
  if (target.attribute.empty()) {
    scope_->set(target.name, value);
    return;
  }
  set_attribute(*this, lookup(target.name), target.attribute, value);
}

Interpreter::Flow Interpreter::loop(const Stmt& s, const Value& over, size_t depth) {
  const std::shared_ptr<Scope> outer = scope_;
  std::vector<Value> items = items_of(over);
  if (s.condition) {
    std::vector<Value> kept;
    for (const Value& v : items) {
      const ScopeGuard guard(*this);
      assign(s.target, v);
      heap_.step();
      if (evaluate(*s.condition).truth()) kept.push_back(v);
    }
    items = std::move(kept);
  }
  heap_.charge(items.size() * sizeof(Value));
  const auto object = std::make_shared<LoopObject>(s, s.recursive ? outer : nullptr, std::move(items), depth);
  const Value loop_value = heap_.object(object, s.recursive);
  if (s.recursive) capture(outer);
  bool ran_through = false;  // once at least: as Jinja, `else` runs where every round was left by break or continue
  for (; object->index < object->items.size(); ++object->index) {
    const ScopeGuard guard(*this);
    heap_.step();
    scope_->set("loop", loop_value);
    assign(s.target, object->items[object->index]);
    const Flow flow = run(s.body);
    ran_through = ran_through || flow == Flow::next;
    if (flow == Flow::break_loop) break;
  }
  if (ran_through) return Flow::next;
  const ScopeGuard guard(*this);
  return run(s.otherwise);
}

Value Interpreter::loop_text(const Stmt& s, const std::shared_ptr<Scope>& scope, const Value& over, size_t depth) {
  const Level level(*this);
  const ScopeGuard guard(*this, scope);
  std::string outer = std::move(out_);
  out_.clear();
  loop(s, over, depth);
  std::string mine = std::move(out_);
  out_ = std::move(outer);
  return heap_.text(std::move(mine));
}

Value Interpreter::call_macro(const Stmt& macro, const std::shared_ptr<Scope>& closure, const std::string& name, Args& args) {
  const Level level(*this);
  const size_t line = line_;
  const ScopeGuard guard(*this, closure);
  bind_arguments(macro, name, args);
  Flow flow = Flow::next;
  Value text = heap_.text(captured_output(macro.body, flow));
  line_ = line;
  return text;
}

void Interpreter::bind_arguments(const Stmt& macro, const std::string& name, Args& args) {
  const Parameters& p = macro.parameters;
  const size_t count = p.names.size();
  if (args.positional.size() > count && !p.takes_varargs) {
    fail(std::string("macro '") + name + "' takes not more than " + std::to_string(count) + " argument(s)");
  }
  std::vector<bool> used(args.named.size());
  for (size_t i = 0; i < count; ++i) {
    const auto named = std::find_if(args.named.begin(), args.named.end(), [&](const auto& n) { return n.first == p.names[i]; });
    const size_t first_default = count - p.defaults.size();
    if (named != args.named.end()) used[static_cast<size_t>(named - args.named.begin())] = true;
    if (i < args.positional.size()) {
      if (named != args.named.end()) fail(std::string("macro '") + name + "' got multiple values for argument '" + p.names[i] + "'");
      scope_->set(p.names[i], args.positional[i]);
    } else if (named != args.named.end()) {
      scope_->set(p.names[i], named->second);
    } else if (i >= first_default) {
      scope_->set(p.names[i], evaluate(*p.defaults[i - first_default]));
    } else {
      scope_->set(p.names[i], Value::undefined(std::string("parameter '") + p.names[i] + "' was not provided"));
    }
  }
  Dict rest;
  if (p.takes_caller) scope_->set("caller", Value::undefined("No caller defined"));
  for (size_t i = 0; i < args.named.size(); ++i) {
    if (used[i]) continue;
    if (args.named[i].first == "caller" && p.takes_caller) {
      scope_->set("caller", args.named[i].second);
    } else if (p.takes_kwargs) {
      rest.set(heap_.text(args.named[i].first), args.named[i].second);
    } else {
      fail(std::string("macro '") + name + "' takes no keyword argument '" + args.named[i].first + "'");
    }
  }
  if (p.takes_kwargs) scope_->set("kwargs", heap_.dict(std::move(rest)));
  if (!p.takes_varargs) return;
  std::vector<Value> extra;
  for (size_t i = count; i < args.positional.size(); ++i) extra.push_back(args.positional[i]);
  scope_->set("varargs", heap_.list(std::move(extra), SeqKind::tuple));
}

Value Interpreter::lookup(const std::string& name) {
  if (const Value* v = scope_->find(name)) return *v;
  Value v = global_function(*this, name);
  if (!v.is_undefined()) return v;
  return Value::undefined(std::string("'") + name + "' is undefined");
}

std::vector<Value> Interpreter::items_of(const Value& v) {
  std::vector<Value> items;
  if (const Seq* s = v.seq()) {
    heap_.charge(s->items.size() * sizeof(Value));
    if (s->consumed) return items;
    s->consumed = s->is_generator();
    return s->items;
  }
  if (const Dict* d = v.dict()) {
    heap_.charge(d->size() * sizeof(Value));
    for (const auto& [key, value] : d->items()) items.push_back(key);
    return items;
  }
  if (const std::string* s = v.text()) {
    for (size_t i = 0; i < s->size();) {
      const size_t n = text::char_bytes((*s)[i]);
      items.push_back(heap_.text(s->substr(i, n)));
      i += n;
    }
    return items;
  }
  if (v.is_undefined()) return items;
  fail(std::string("'") + v.type_name() + "' object is not iterable");
}

std::string Interpreter::text_of(const Value& v) { return to_text(heap_, v); }

}  // namespace moegen::jinja
