#pragma once

#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "tokenizer/jinja_ast.h"
#include "tokenizer/jinja_lexer.h"

namespace moegen::jinja {

/// The kind of expression that filter blocks and `set x | f` hand their text to.
inline constexpr const char* kBlockText = "\x01";

/// Throws SyntaxError. Depth of nesting is bounded.
TemplateTree parse(std::string_view source);

/// Expressions; the statements are in a class that derives from it.
class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

 protected:
  [[noreturn]] void error(const std::string& message) const;
  [[noreturn]] void unexpected(const char* wanted) const;
  [[nodiscard]] const Token& current() const { return tokens_[at_]; }
  [[nodiscard]] const Token& ahead() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  Token take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  [[nodiscard]] bool is_op(const char* op) const { return current().kind == Token::op && current().value == op; }
  [[nodiscard]] bool is_name(const char* name) const { return current().kind == Token::name && current().value == name; }
  bool skip_op(const char* op);
  bool skip_name(const char* name);
  void expect_op(const char* op);
  std::string expect_name();

  ExprPtr expression(bool with_condition = true);
  /// One expression, or several with commas between: a tuple.
  ExprPtr tuple(bool with_condition, const char* end_name = nullptr);
  ExprPtr filters(ExprPtr of, bool only_first_call = false);
  ExprPtr postfix(ExprPtr of);
  ExprPtr primary();
  void arguments(Expr& call);

  struct Uses {
    bool varargs = false;
    bool kwargs = false;
    bool caller = false;
  };
  Uses uses_;  // names that the macro being parsed reads
  [[nodiscard]] bool is_content(const Expr& e) const;
  [[nodiscard]] static bool is_arguments(const Expr& e);
  void written(const Expr& e);                              // printed, or joined to a text
  void asked(const Expr& of, const std::string& question);  // a test, a filter or a method
  ContentUse content_use_;
  std::set<std::string> content_names_ = {"content"};  // and what has been set to a content
  struct Nesting {
    explicit Nesting(ExpressionParser& p);
    ~Nesting() { --parser.nesting_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;
    ExpressionParser& parser;
  };

 private:
  using Rule = ExprPtr (ExpressionParser::*)();
  ExprPtr logical_or();
  ExprPtr logical_and();
  ExprPtr logical_not();
  ExprPtr comparison();
  ExprPtr sum();
  ExprPtr concatenation();
  ExprPtr product();
  ExprPtr power();
  ExprPtr unary() { return unary(true); }
  ExprPtr unary(bool with_filters);
  ExprPtr left_binary(Rule operand, std::initializer_list<const char*> ops);
  ExprPtr chain(Rule operand, const char* name, const char* op, ExprKind kind);
  ExprPtr subscript(ExprPtr of);
  ExprPtr attribute(ExprPtr of);
  ExprPtr filter(ExprPtr of);
  ExprPtr test(ExprPtr of);
  ExprPtr literal_list();
  ExprPtr literal_dict();
  ExprPtr make(ExprKind kind, std::vector<ExprPtr> items, std::string name = {});
  ExprPtr seal(std::unique_ptr<Expr> e) const;

  std::vector<Token> tokens_;
  size_t at_ = 0;
  size_t nesting_ = 0;
};

}  // namespace moegen::jinja
