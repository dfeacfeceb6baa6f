#include <algorithm>
#include <initializer_list>
#include <set>
#include <utility>

#include "tokenizer/jinja_parser.h"

namespace moegen::jinja {
namespace {

class Parser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  TemplateTree run() {
    TemplateTree tree;
    tree.body = body({}, "");
    tree.content = content_use_;
    return tree;
  }

 private:
  using StmtPtr = std::unique_ptr<Stmt>;

  [[nodiscard]] StmtPtr make(StmtKind kind) const { return std::make_unique<Stmt>(Stmt{.kind = kind, .line = current().line}); }

  void end_of_block() {
    if (current().kind == Token::end) error("unexpected end of template, expected 'end of statement block'.");
    if (current().kind != Token::block_end) unexpected("end of statement block");
    take();
  }

  [[nodiscard]] bool at_any(std::initializer_list<const char*> names) const {
    return std::any_of(names.begin(), names.end(), [&](const char* n) { return is_name(n); });
  }

  static std::string looked_for(std::initializer_list<const char*> ends, const std::string& open) {
    std::string text = " Jinja was looking for the following tags: ";
    for (const char* e : ends) text.append(e == *ends.begin() ? "'" : " or '").append(e).append("'");
    return text + ". The innermost block that needs to be closed is '" + open + "'.";
  }

  /// Statements up to one of `ends`, whose name is the current token then; with no ends, up to the end of the template.
  Body body(std::initializer_list<const char*> ends, const std::string& open) {
    const Nesting nesting(*this);
    Body all;
    for (;;) {
      const Token& t = current();
      if (t.kind == Token::end) {
        if (ends.size() != 0) error(std::string("Unexpected end of template.") + looked_for(ends, open));
        return all;
      }
      if (t.kind == Token::data) {
        StmtPtr s = make(StmtKind::data);
        s->text = take().value;
        all.push_back(std::move(s));
      } else if (t.kind == Token::variable_begin) {
        take();
        StmtPtr s = make(StmtKind::print);
        s->expr = tuple(true);
        written(*s->expr);
        if (current().kind == Token::end) error("unexpected end of template, expected 'end of print statement'.");
        if (current().kind != Token::variable_end) unexpected("end of print statement");
        take();
        all.push_back(std::move(s));
      } else {
        take();
        if (at_any(ends)) return all;
        all.push_back(statement(ends, open));
      }
    }
  }

  /// The end tag has been seen; behind it nothing else.
  void close() {
    take();
    end_of_block();
  }

  StmtPtr statement(std::initializer_list<const char*> ends, const std::string& open) {
    if (current().kind != Token::name) error("tag name expected");
    const std::string name = take().value;
    if (name == "if") return conditional();
    if (name == "for") return loop();
    if (name == "set") return set();
    if (name == "macro") return macro();
    if (name == "call") return call();
    if (name == "filter") return filter_block();
    if (name == "with") return with();
    if (name == "generation") return scoped("endgeneration", "generation");
    if (name == "block") return block();
    if (name == "break" || name == "continue") return jump(name == "break" ? StmtKind::break_loop : StmtKind::continue_loop);
    for (const char* known : {"include", "import", "from", "extends", "do", "autoescape", "trans", "print"}) {
      if (name == known) error(std::string("the tag '") + name + "' is not supported");
    }
    error(std::string("Encountered unknown tag '") + name + "'." + (ends.size() != 0 ? looked_for(ends, open) : ""));
  }

  StmtPtr conditional() {
    StmtPtr s = make(StmtKind::conditional);
    for (bool more = true; more;) {
      Branch branch;
      branch.condition = tuple(false);
      end_of_block();
      branch.body = body({"elif", "else", "endif"}, "if");
      s->branches.push_back(std::move(branch));
      more = skip_name("elif");
    }
    if (skip_name("else")) {
      end_of_block();
      Branch branch;
      branch.body = body({"endif"}, "if");
      s->branches.push_back(std::move(branch));
    }
    close();
    return s;
  }

  Target target(bool with_attribute) {
    const Nesting nesting(*this);
    Target all;
    bool is_tuple = false;
    for (;;) {
      if (is_name("in") || is_op("=") || is_op(")") || is_op("|") || current().kind == Token::block_end) break;
      Target one;
      if (skip_op("(")) {
        one = target(with_attribute);
        expect_op(")");
      } else {
        one.name = expect_name();
        for (const char* constant : {"true", "false", "none", "True", "False", "None"}) {
          if (one.name == constant) error(std::string("can't assign to '") + one.name + "'");
        }
        if (with_attribute && skip_op(".")) one.attribute = expect_name();
      }
      all.parts.push_back(std::move(one));
      if (!skip_op(",")) break;
      is_tuple = true;
    }
    if (all.parts.empty()) unexpected("name");
    if (is_tuple) return all;
    Target only = std::move(all.parts[0]);
    return only;
  }

  StmtPtr loop() {
    StmtPtr s = make(StmtKind::loop);
    s->target = target(false);
    if (!skip_name("in")) unexpected("in");
    s->expr = tuple(false, "recursive");
    content_use_.as_parts = content_use_.as_parts || is_content(*s->expr);
    if (skip_name("if")) s->condition = expression();
    s->recursive = skip_name("recursive");
    end_of_block();
    ++loops_;
    s->body = body({"endfor", "else"}, "for");
    --loops_;
    if (skip_name("else")) {
      end_of_block();
      s->otherwise = body({"endfor"}, "for");
    }
    close();
    return s;
  }

  StmtPtr jump(StmtKind kind) {
    if (loops_ == 0) error("break and continue belong into a loop");
    StmtPtr s = make(kind);
    end_of_block();
    return s;
  }

  ExprPtr block_text_filters() {
    auto placeholder = std::make_unique<Expr>(Expr{.kind = ExprKind::name, .line = current().line, .name = kBlockText});
    return filters(std::move(placeholder), true);
  }

  StmtPtr set() {
    StmtPtr s = make(StmtKind::set);
    s->target = target(true);
    if (skip_op("=")) {
      s->expr = tuple(true);
      if (is_content(*s->expr) && s->target.attribute.empty()) content_names_.insert(s->target.name);
      end_of_block();
      return s;
    }
    s->kind = StmtKind::set_block;
    if (is_op("|")) s->expr = block_text_filters();
    end_of_block();
    s->body = inner_body("endset", "set");
    return s;
  }

  Body inner_body(const char* end, const char* open) {
    Body b = body({end}, open);
    close();
    return b;
  }

  Parameters parameters() {
    Parameters p;
    expect_op("(");
    while (!is_op(")")) {
      if (!p.names.empty()) expect_op(",");
      p.names.push_back(expect_name());
      if (skip_op("=")) {
        p.defaults.push_back(expression());
      } else if (!p.defaults.empty()) {
        error("non-default argument follows default argument");
      }
    }
    expect_op(")");
    return p;
  }

  // The body of a macro, in which loops outside do not count and special names are noticed.
  Body callable_body(Parameters& p, const char* end, const char* open) {
    const Uses outer = uses_;
    const size_t loops = loops_;
    uses_ = {};
    loops_ = 0;
    Body b = inner_body(end, open);
    p.takes_varargs = uses_.varargs;
    p.takes_kwargs = uses_.kwargs;
    p.takes_caller = uses_.caller;
    // As in Jinja2, what a macro inside reads counts for those around it.
    uses_ = {outer.varargs || uses_.varargs, outer.kwargs || uses_.kwargs, outer.caller || uses_.caller};
    loops_ = loops;
    return b;
  }

  StmtPtr macro() {
    StmtPtr s = make(StmtKind::macro);
    s->text = expect_name();
    s->parameters = parameters();
    end_of_block();
    s->body = callable_body(s->parameters, "endmacro", "macro");
    return s;
  }

  StmtPtr call() {
    StmtPtr s = make(StmtKind::call_block);
    if (is_op("(")) s->parameters = parameters();
    s->expr = expression();
    if (s->expr->kind != ExprKind::call) error("expected call");
    end_of_block();
    s->body = callable_body(s->parameters, "endcall", "call");
    return s;
  }

  StmtPtr filter_block() {
    StmtPtr s = make(StmtKind::filter_block);
    auto e = std::make_unique<Expr>(Expr{.kind = ExprKind::filter, .line = current().line});
    e->name = expect_name();
    e->items.push_back(std::make_unique<Expr>(Expr{.kind = ExprKind::name, .line = current().line, .name = kBlockText}));
    if (is_op("(")) arguments(*e);
    s->expr = filters(std::move(e), true);
    end_of_block();
    s->body = inner_body("endfilter", "filter");
    return s;
  }

  StmtPtr with() {
    StmtPtr s = make(StmtKind::with);
    while (current().kind != Token::block_end) {
      if (!s->assignments.empty()) expect_op(",");
      Target t;
      t.name = expect_name();
      expect_op("=");
      s->assignments.emplace_back(std::move(t), expression());
    }
    end_of_block();
    s->body = inner_body("endwith", "with");
    return s;
  }

  StmtPtr scoped(const char* end, const char* open) {
    StmtPtr s = make(StmtKind::scoped);
    end_of_block();
    s->body = inner_body(end, open);
    return s;
  }

  // Without `extends` a block is its body, which sees what stands at the top of the template only, or with "scoped" all.
  StmtPtr block() {
    StmtPtr s = make(StmtKind::block);
    s->text = expect_name();
    if (!blocks_.insert(s->text).second) error("block '" + s->text + "' defined twice");
    s->recursive = skip_name("scoped");
    if (skip_name("required")) error("a required block needs a template that extends this one");
    end_of_block();
    const size_t loops = std::exchange(loops_, 0);
    s->body = body({"endblock"}, "block");
    loops_ = loops;
    take();
    skip_name(s->text.c_str());
    end_of_block();
    return s;
  }

  size_t loops_ = 0;
  std::set<std::string> blocks_;
};

}  // namespace

TemplateTree parse(std::string_view source) { return Parser(lex(source)).run(); }

}  // namespace moegen::jinja
