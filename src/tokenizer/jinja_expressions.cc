#include <algorithm>

#include "tokenizer/jinja_parser.h"
#include "tokenizer/python_text.h"

namespace moegen::jinja {
namespace {

constexpr size_t kMaxNesting = 160;      // of brackets and blocks: the parser recurses, a dozen calls a bracket
constexpr uint32_t kMaxTreeDepth = 500;  // of operators in a row: the interpreter and destructors recurse

}  // namespace

ExpressionParser::Nesting::Nesting(ExpressionParser& p) : parser(p) {
  if (++parser.nesting_ > kMaxNesting) parser.error("the template is nested too deep");
}

void ExpressionParser::error(const std::string& message) const { throw SyntaxError{message, current().line}; }

void ExpressionParser::unexpected(const char* wanted) const {
  static constexpr const char* kNames[] = {"template data",
                                           "begin of statement block",
                                           "end of statement block",
                                           "begin of print statement",
                                           "end of print statement",
                                           "name",
                                           "string",
                                           "integer",
                                           "float",
                                           "",
                                           "end of template"};
  const Token& t = current();
  const std::string what = t.kind == Token::name || t.kind == Token::op ? t.value : kNames[t.kind];
  error(std::string("unexpected '") + what + "'" + (wanted != nullptr ? std::string(", expected '") + wanted + "'" : ""));
}

bool ExpressionParser::skip_op(const char* op) {
  if (!is_op(op)) return false;
  take();
  return true;
}

bool ExpressionParser::skip_name(const char* name) {
  if (!is_name(name)) return false;
  take();
  return true;
}

void ExpressionParser::expect_op(const char* op) {
  if (!skip_op(op)) unexpected(op);
}

std::string ExpressionParser::expect_name() {
  if (current().kind != Token::name) unexpected("name");
  return take().value;
}

ExprPtr ExpressionParser::seal(std::unique_ptr<Expr> e) const {
  for (const ExprPtr& i : e->items) {
    if (i) e->depth = std::max(e->depth, i->depth + 1);
  }
  for (const auto& [name, i] : e->named) e->depth = std::max(e->depth, i->depth + 1);
  for (const ExprPtr* i : {&e->star, &e->star_star}) {
    if (*i) e->depth = std::max(e->depth, (*i)->depth + 1);
  }
  if (e->depth > kMaxTreeDepth) error("an expression is too long");
  return e;
}

ExprPtr ExpressionParser::make(ExprKind kind, std::vector<ExprPtr> items, std::string name) {
  auto e = std::make_unique<Expr>(Expr{.kind = kind, .line = current().line, .name = std::move(name)});
  e->items = std::move(items);
  if (kind == ExprKind::binary || kind == ExprKind::concat) {
    for (const ExprPtr& i : e->items) written(*i);
  }
  return seal(std::move(e));
}

namespace {

template <typename... Items>
std::vector<ExprPtr> items(Items&&... all) {
  std::vector<ExprPtr> v;
  (v.push_back(std::forward<Items>(all)), ...);
  return v;
}

}  // namespace

ExprPtr ExpressionParser::expression(bool with_condition) {
  const Nesting nesting(*this);
  ExprPtr e = logical_or();
  while (with_condition && skip_name("if")) {
    ExprPtr condition = logical_or();
    ExprPtr otherwise = skip_name("else") ? expression() : nullptr;
    e = make(ExprKind::condition, items(std::move(e), std::move(condition), std::move(otherwise)));
  }
  return e;
}

ExprPtr ExpressionParser::tuple(bool with_condition, const char* end_name) {
  std::vector<ExprPtr> all;
  bool is_tuple = false;
  for (;;) {
    const bool ends =
        current().kind == Token::variable_end || current().kind == Token::block_end || is_op(")") || (end_name != nullptr && is_name(end_name));
    if (ends) break;
    all.push_back(expression(with_condition));
    if (!skip_op(",")) break;
    is_tuple = true;
  }
  if (all.empty()) unexpected(nullptr);
  if (!is_tuple) return std::move(all[0]);
  return make(ExprKind::tuple, std::move(all));
}

ExprPtr ExpressionParser::chain(Rule operand, const char* name, const char* op, ExprKind kind) {
  std::vector<ExprPtr> all = items((this->*operand)());
  while (name != nullptr ? skip_name(name) : skip_op(op)) all.push_back((this->*operand)());
  if (all.size() == 1) return std::move(all[0]);
  return make(kind, std::move(all));
}

ExprPtr ExpressionParser::logical_or() { return chain(&ExpressionParser::logical_and, "or", nullptr, ExprKind::logical_or); }
ExprPtr ExpressionParser::logical_and() { return chain(&ExpressionParser::logical_not, "and", nullptr, ExprKind::logical_and); }

ExprPtr ExpressionParser::logical_not() {
  if (!skip_name("not")) return comparison();
  const Nesting nesting(*this);
  return make(ExprKind::logical_not, items(logical_not()));
}

ExprPtr ExpressionParser::comparison() {
  std::vector<ExprPtr> all = items(sum());
  std::vector<std::string> ops;
  for (;;) {
    static constexpr const char* kOps[] = {"==", "!=", "<=", ">=", "<", ">"};
    const auto* op = std::find_if(std::begin(kOps), std::end(kOps), [&](const char* o) { return is_op(o); });
    if (op != std::end(kOps)) {
      ops.emplace_back(take().value);
    } else if (skip_name("in")) {
      ops.emplace_back("in");
    } else if (is_name("not") && ahead().kind == Token::name && ahead().value == "in") {
      take();
      take();
      ops.emplace_back("not in");
    } else {
      break;
    }
    all.push_back(sum());
  }
  if (ops.empty()) return std::move(all[0]);
  const bool with_none = all[1]->kind == ExprKind::constant && all[1]->value.is_none();
  content_use_.as_none = content_use_.as_none || (with_none && is_content(*all[0]));
  auto e = std::make_unique<Expr>(Expr{.kind = ExprKind::compare, .line = current().line});
  e->items = std::move(all);
  e->ops = std::move(ops);
  return seal(std::move(e));
}

ExprPtr ExpressionParser::left_binary(Rule operand, std::initializer_list<const char*> ops) {
  ExprPtr left = (this->*operand)();
  for (;;) {
    const auto* op = std::find_if(ops.begin(), ops.end(), [&](const char* o) { return is_op(o); });
    if (op == ops.end()) return left;
    take();
    ExprPtr right = (this->*operand)();
    left = make(ExprKind::binary, items(std::move(left), std::move(right)), *op);
  }
}

ExprPtr ExpressionParser::sum() { return left_binary(&ExpressionParser::concatenation, {"+", "-"}); }
ExprPtr ExpressionParser::concatenation() { return chain(&ExpressionParser::product, nullptr, "~", ExprKind::concat); }
ExprPtr ExpressionParser::product() { return left_binary(&ExpressionParser::power, {"*", "/", "//", "%"}); }
ExprPtr ExpressionParser::power() { return left_binary(&ExpressionParser::unary, {"**"}); }

ExprPtr ExpressionParser::unary(bool with_filters) {
  ExprPtr e;
  if (is_op("-") || is_op("+")) {
    const Nesting nesting(*this);
    const bool negative = take().value == "-";
    e = make(negative ? ExprKind::negative : ExprKind::positive, items(unary(false)));
  } else {
    e = primary();
  }
  e = postfix(std::move(e));
  return with_filters ? filters(std::move(e)) : std::move(e);
}

ExprPtr ExpressionParser::primary() {
  const Token t = current();
  auto e = std::make_unique<Expr>(Expr{.kind = ExprKind::constant, .line = t.line});
  switch (t.kind) {
    case Token::name:
      take();
      if (t.value == "true" || t.value == "True" || t.value == "false" || t.value == "False") {
        e->value = Value((t.value[0] | 0x20) == 't');
      } else if (t.value == "none" || t.value == "None") {
        e->value = Value::none();
      } else {
        uses_.varargs = uses_.varargs || t.value == "varargs";
        uses_.kwargs = uses_.kwargs || t.value == "kwargs";
        uses_.caller = uses_.caller || t.value == "caller";
        e->kind = ExprKind::name;
        e->name = t.value;
      }
      return e;
    case Token::text: {
      std::string all;
      while (current().kind == Token::text) all += take().value;
      e->value = Value(std::make_shared<const std::string>(std::move(all)));
      return e;
    }
    case Token::integer: {
      take();
      int64_t v = 0;
      const char letter = t.value.size() > 2 ? static_cast<char>(t.value[1] | 0x20) : ' ';
      if (!python::parse_integer(t.value, letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10, v))
        error(std::string("the integer ") + t.value.substr(0, 40) + " is malformed or too large");
      e->value = Value(v);
      return e;
    }
    case Token::real: {
      take();
      double v = 0;
      python::parse_real(t.value, v);
      e->value = Value(v);
      return e;
    }
    default:
      break;
  }
  if (is_op("[")) return literal_list();
  if (is_op("{")) return literal_dict();
  if (!skip_op("(")) unexpected(nullptr);
  const Nesting nesting(*this);
  ExprPtr inner = is_op(")") ? make(ExprKind::tuple, {}) : tuple(true);
  expect_op(")");
  return inner;
}

ExprPtr ExpressionParser::literal_list() {
  expect_op("[");
  std::vector<ExprPtr> all;
  while (!is_op("]")) {
    all.push_back(expression());
    if (!skip_op(",")) break;
  }
  expect_op("]");
  return make(ExprKind::list, std::move(all));
}

ExprPtr ExpressionParser::literal_dict() {
  expect_op("{");
  std::vector<ExprPtr> all;
  while (!is_op("}")) {
    all.push_back(expression());
    expect_op(":");
    all.push_back(expression());
    if (!skip_op(",")) break;
  }
  expect_op("}");
  return make(ExprKind::dict, std::move(all));
}

ExprPtr ExpressionParser::postfix(ExprPtr of) {
  for (;;) {
    if (is_op(".")) {
      of = attribute(std::move(of));
    } else if (is_op("[")) {
      of = subscript(std::move(of));
    } else if (is_op("(")) {
      auto e = std::make_unique<Expr>(Expr{.kind = ExprKind::call, .line = current().line});
      e->items.push_back(std::move(of));
      arguments(*e);
      of = seal(std::move(e));
    } else {
      return of;
    }
  }
}

ExprPtr ExpressionParser::filters(ExprPtr of, bool only_first_call) {
  for (;;) {
    if (is_op("|")) {
      of = filter(std::move(of));
    } else if (!only_first_call && is_name("is")) {
      of = test(std::move(of));
    } else if (!only_first_call && is_op("(")) {
      of = postfix(std::move(of));
    } else {
      return of;
    }
  }
}

ExprPtr ExpressionParser::attribute(ExprPtr of) {
  expect_op(".");
  if (current().kind == Token::integer) {
    ExprPtr index = primary();
    return make(ExprKind::item, items(std::move(of), std::move(index)));
  }
  std::string name = expect_name();
  asked(*of, name);
  return make(ExprKind::attribute, items(std::move(of)), std::move(name));
}

ExprPtr ExpressionParser::subscript(ExprPtr of) {
  expect_op("[");
  std::vector<ExprPtr> parts;
  bool is_slice = false;
  ExprPtr part;
  for (;;) {
    if (!is_op(":") && !is_op("]")) part = expression();
    parts.push_back(std::move(part));
    part = nullptr;
    if (!skip_op(":")) break;
    is_slice = true;
    if (parts.size() == 3) unexpected("]");
  }
  if (!is_slice && is_op(",")) error("an index of several parts is not supported");
  expect_op("]");
  if (!is_slice) {
    if (!parts[0]) parts[0] = make(ExprKind::tuple, {});  // x[] is x[()]
    return make(ExprKind::item, items(std::move(of), std::move(parts[0])));
  }
  parts.resize(3);
  parts.insert(parts.begin(), std::move(of));
  return make(ExprKind::slice, std::move(parts));
}

void ExpressionParser::arguments(Expr& call) {
  expect_op("(");
  bool first = true;
  while (!is_op(")")) {
    if (!first) expect_op(",");
    first = false;
    if (is_op(")")) break;
    if (skip_op("*")) {
      if (call.star) error("invalid syntax for function call expression");
      call.star = expression();
    } else if (skip_op("**")) {
      if (call.star_star) error("invalid syntax for function call expression");
      call.star_star = expression();
    } else if (current().kind == Token::name && ahead().kind == Token::op && ahead().value == "=") {
      std::string name = take().value;
      take();
      ExprPtr value = expression();
      call.named.emplace_back(std::move(name), std::move(value));
    } else {
      if (!call.named.empty() || call.star_star) error("invalid syntax for function call expression");
      call.items.push_back(expression());
    }
  }
  expect_op(")");
}

ExprPtr ExpressionParser::filter(ExprPtr of) {
  auto e = std::make_unique<Expr>(Expr{.kind = ExprKind::filter, .line = current().line});
  expect_op("|");
  e->name = expect_name();
  while (skip_op(".")) e->name.append(".").append(expect_name());
  asked(*of, e->name);
  e->items.push_back(std::move(of));
  if (is_op("(")) arguments(*e);
  return seal(std::move(e));
}

ExprPtr ExpressionParser::test(ExprPtr of) {
  take();
  const bool negated = skip_name("not");
  auto e = std::make_unique<Expr>(Expr{.kind = ExprKind::test, .line = current().line});
  e->name = expect_name();
  while (skip_op(".")) e->name.append(".").append(expect_name());
  content_use_.as_none = content_use_.as_none || (e->name == "none" && is_content(*of));
  asked(*of, e->name);
  e->items.push_back(std::move(of));
  const Token& t = current();
  const bool literal = t.kind == Token::text || t.kind == Token::integer || t.kind == Token::real || is_op("[") || is_op("{");
  const bool word = t.kind == Token::name && t.value != "else" && t.value != "or" && t.value != "and";
  if (is_op("(")) {
    arguments(*e);
  } else if (literal || word) {
    if (is_name("is")) error("You cannot chain multiple tests with is");
    const Nesting nesting(*this);
    e->items.push_back(postfix(primary()));
  }
  ExprPtr sealed = seal(std::move(e));
  return negated ? make(ExprKind::logical_not, items(std::move(sealed))) : std::move(sealed);
}

}  // namespace moegen::jinja
