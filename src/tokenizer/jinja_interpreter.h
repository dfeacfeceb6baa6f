#pragma once

#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tokenizer/jinja_ast.h"
#include "tokenizer/jinja_value.h"

namespace moegen::jinja {

/// Variables of a block. Names not found here are looked for in the parent.
struct Scope {
  explicit Scope(std::shared_ptr<Scope> outer) : parent(std::move(outer)) {}
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<std::string, Value>> variables;  // few
  bool captured = false;                                 // by a macro: emptied at the end of the rendering
  [[nodiscard]] const Value* find(const std::string& name) const;
  void set(const std::string& name, Value value);
};

/// One rendering of one template. Not thread-safe; the tree may be shared.
class Interpreter {
 public:
  Interpreter(Heap& heap, const std::tm& now) : heap_(heap), now_(now) {}
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  std::string render(const TemplateTree& tree, const Dict& context);

  Heap& heap() { return heap_; }
  [[nodiscard]] const std::tm& now() const { return now_; }
  [[nodiscard]] size_t line() const { return line_; }

  Value evaluate(const Expr& e);
  Value call(const Value& callee, Args& args);
  /// `name` as filter or test; unknown names throw.
  Value filter(const std::string& name, const Value& of, Args& args);
  bool test(const std::string& name, const Value& of, Args& args);
  Value attribute(const Value& of, const std::string& name);
  Value item(const Value& of, const Value& key);
  /// What a loop runs over. Throws for what cannot be iterated.
  std::vector<Value> items_of(const Value& v);
  /// What print writes.
  std::string text_of(const Value& v);

  /// The output of a macro's body.
  Value call_macro(const Stmt& macro, const std::shared_ptr<Scope>& closure, const std::string& name, Args& args);
  Value loop_text(const Stmt& loop, const std::shared_ptr<Scope>& scope, const Value& over, size_t depth);

  /// A level of recursion of our own stack.
  struct Level {
    explicit Level(Interpreter& i);
    ~Level() { --interpreter.level_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    Interpreter& interpreter;
  };

 private:
  enum class Flow { next, break_loop, continue_loop };
  struct ScopeGuard;

  Flow run(const Body& body);
  Flow run(const Stmt& s);
  Flow conditional(const Stmt& s);
  Flow loop(const Stmt& s, const Value& over, size_t depth);
  Flow with(const Stmt& s);
  Flow text_block(const Stmt& s);
  void call_block(const Stmt& s);
  std::string captured_output(const Body& body, Flow& flow);
  void write(std::string_view text);
  void assign(const Target& target, const Value& value);
  void bind_arguments(const Stmt& macro, const std::string& name, Args& args);
  void capture(const std::shared_ptr<Scope>& scope);

  Value lookup(const std::string& name);
  Value unary(const Expr& e);
  Value logical(const Expr& e);
  Value comparison(const Expr& e);
  Value concatenation(const Expr& e);
  Value collection(const Expr& e);
  Value slice(const Expr& e);
  Value call(const Expr& e, const Value* caller);
  Value filter_or_test(const Expr& e);
  Args arguments(const Expr& e);

  Heap& heap_;
  std::tm now_;
  std::shared_ptr<Scope> scope_;
  std::shared_ptr<Scope> top_;  // what blocks see
  std::vector<std::shared_ptr<Scope>> captured_;
  std::string out_;
  size_t line_ = 0;
  size_t level_ = 0;
};

/// The functions that every template sees (range, namespace ..); undefined for other names.
Value global_function(Interpreter& interpreter, const std::string& name);
/// A method of a string, list or dict, bound; undefined where there is none.
Value method(Interpreter& interpreter, const Value& of, const std::string& name);
Value make_macro(Interpreter& interpreter, const Stmt& macro, std::string name, std::shared_ptr<Scope> closure);
Value make_namespace(Interpreter& interpreter, Dict values);
/// Sets an attribute of a namespace; throws for other values.
void set_attribute(Interpreter& interpreter, const Value& of, const std::string& name, const Value& value);

/// The `loop` of one run; `index` is moved by the interpreter.
class LoopObject : public Object, public std::enable_shared_from_this<LoopObject> {
 public:
  LoopObject(const Stmt& statement, std::shared_ptr<Scope> scope, std::vector<Value> items, size_t depth);
  [[nodiscard]] std::string type_name() const override { return "LoopContext"; }
  [[nodiscard]] bool callable() const override { return true; }
  [[nodiscard]] uint32_t depth() const override { return depth_of_items_; }
  Value attribute(Interpreter& interpreter, const std::string& name) override;
  Value call(Interpreter& interpreter, Args& args) override;
  void clear() override;

  const Stmt& statement;
  std::shared_ptr<Scope> scope;  // around the loop
  std::vector<Value> items;
  std::optional<Value> last_seen;  // of changed()
  size_t index = 0;
  size_t nesting;

 private:
  uint32_t depth_of_items_ = 0;
};

}  // namespace moegen::jinja
