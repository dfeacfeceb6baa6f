#include <algorithm>

#include "tokenizer/jinja_interpreter.h"
#include "tokenizer/jinja_operators.h"
#include "tokenizer/jinja_params.h"

namespace moegen::jinja {
namespace {

class Namespace : public Object {
 public:
  explicit Namespace(Dict v) : values(std::move(v)) {}
  [[nodiscard]] std::string type_name() const override { return "Namespace"; }
  Value attribute(Interpreter& interpreter, const std::string& name) override {
    const Value* v = values.find(name);
    return v != nullptr ? *v : Object::attribute(interpreter, name);
  }
  [[nodiscard]] const Dict* fields() const override { return &values; }
  void clear() override { values = Dict(); }
  Dict values;
};

class Macro : public Object {
 public:
  Macro(const Stmt& macro, std::string name, std::shared_ptr<Scope> closure) : macro_(macro), name_(std::move(name)), closure_(std::move(closure)) {}
  [[nodiscard]] std::string type_name() const override { return "Macro"; }
  [[nodiscard]] bool callable() const override { return true; }
  Value call(Interpreter& interpreter, Args& args) override { return interpreter.call_macro(macro_, closure_, name_, args); }
  Value attribute(Interpreter& interpreter, const std::string& name) override {
    if (name == "name") return interpreter.heap().text(name_);
    return Object::attribute(interpreter, name);
  }

 private:
  const Stmt& macro_;
  std::string name_;
  std::shared_ptr<Scope> closure_;
};

// A method of `loop`, a cycler: code with one value to work on.
class Bound : public Object {
 public:
  using Function = Value (*)(Interpreter&, const Value& self, Args&);
  Bound(Value self, Function function) : self_(std::move(self)), function_(function) {}
  [[nodiscard]] std::string type_name() const override { return "method"; }
  [[nodiscard]] bool callable() const override { return true; }
  [[nodiscard]] uint32_t depth() const override { return self_.depth() + 1; }
  Value call(Interpreter& interpreter, Args& args) override { return function_(interpreter, self_, args); }

 private:
  Value self_;
  Function function_;
};

}  // namespace

Value make_macro(Interpreter& interpreter, const Stmt& macro, std::string name, std::shared_ptr<Scope> closure) {
  return interpreter.heap().object(std::make_shared<Macro>(macro, std::move(name), std::move(closure)), false);
}

Value make_namespace(Interpreter& interpreter, Dict values) {
  return interpreter.heap().object(std::make_shared<Namespace>(std::move(values)), true);
}

void set_attribute(Interpreter& interpreter, const Value& of, const std::string& name, const Value& value) {
  auto* ns = dynamic_cast<Namespace*>(of.object());
  if (ns == nullptr) {
    require_defined(of);
    fail("cannot assign attribute on non-namespace object");
  }
  interpreter.heap().charge(sizeof(Value));
  ns->values.set(interpreter.heap().text(name), value);
}

LoopObject::LoopObject(const Stmt& s, std::shared_ptr<Scope> around, std::vector<Value> all, size_t depth)
    : statement(s), scope(std::move(around)), items(std::move(all)), nesting(depth) {
  for (const Value& v : items) depth_of_items_ = std::max(depth_of_items_, v.depth() + 1);
}

void LoopObject::clear() {
  scope.reset();
  items.clear();
  last_seen.reset();
}

Value LoopObject::call(Interpreter& interpreter, Args& args) {
  if (!statement.recursive) fail("The loop must have the 'recursive' marker to be called recursively.");
  const Params p("loop", args, {"iterable"}, 1);
  return interpreter.loop_text(statement, scope, p.at(0), nesting + 1);
}

Value LoopObject::attribute(Interpreter& interpreter, const std::string& name) {
  const auto number = [](size_t n) { return Value(static_cast<int64_t>(n)); };
  if (name == "index") return number(index + 1);
  if (name == "index0") return number(index);
  if (name == "revindex") return number(items.size() - index);
  if (name == "revindex0") return number(items.size() - index - 1);
  if (name == "first") return Value(index == 0);
  if (name == "last") return Value(index + 1 == items.size());
  if (name == "length") return number(items.size());
  if (name == "depth") return number(nesting + 1);
  if (name == "depth0") return number(nesting);
  if (name == "previtem") return index == 0 ? Value::undefined("there is no previous item") : items[index - 1];
  if (name == "nextitem") return index + 1 >= items.size() ? Value::undefined("there is no next item") : items[index + 1];
  if (name != "cycle" && name != "changed") return Object::attribute(interpreter, name);
  const std::shared_ptr<Object> me = shared_from_this();
  const Value self(me);
  if (name == "cycle") {
    return interpreter.heap().object(
        std::make_shared<Bound>(self,
                                [](Interpreter&, const Value& v, Args& args) {
                                  if (args.positional.empty()) fail("no items for cycling given");
                                  return args.positional[dynamic_cast<LoopObject&>(*v.object()).index % args.positional.size()];
                                }),
        false);
  }
  return interpreter.heap().object(std::make_shared<Bound>(self,
                                                           [](Interpreter& i, const Value& v, Args& args) {
                                                             auto& loop = dynamic_cast<LoopObject&>(*v.object());
                                                             Value now = i.heap().list(args.positional, SeqKind::tuple);
                                                             if (!loop.last_seen) i.heap().own(std::get<std::shared_ptr<Object>>(v.data()));
                                                             i.heap().step(now.weight());
                                                             if (loop.last_seen && equal(*loop.last_seen, now)) return Value(false);
                                                             loop.last_seen = std::move(now);
                                                             return Value(true);
                                                           }),
                                   false);
}

}  // namespace moegen::jinja
