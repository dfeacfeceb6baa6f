// What a template shows of how it reads messages (`ContentUse`).
#include <algorithm>
#include <iterator>

#include "tokenizer/jinja_parser.h"

namespace moegen::jinja {
namespace {

// of.name, of['name']
bool is_member(const Expr& e, std::string_view name) {
  if (e.kind == ExprKind::attribute) return e.name == name;
  if (e.kind != ExprKind::item || e.items[1]->kind != ExprKind::constant) return false;
  const std::string* key = e.items[1]->value.text();
  return key != nullptr && *key == name;
}

}  // namespace

bool ExpressionParser::is_arguments(const Expr& e) { return is_member(e, "arguments"); }

void ExpressionParser::written(const Expr& e) { content_use_.writes_arguments = content_use_.writes_arguments || is_arguments(e); }

void ExpressionParser::asked(const Expr& of, const std::string& question) {
  constexpr std::string_view kOfValues[] = {"string", "mapping", "tojson", "items", "dictsort", "keys", "get"};
  const bool of_value = std::find(std::begin(kOfValues), std::end(kOfValues), question) != std::end(kOfValues);
  content_use_.reads_arguments = content_use_.reads_arguments || (of_value && is_arguments(of));
}

bool ExpressionParser::is_content(const Expr& e) const {
  return e.kind == ExprKind::name ? content_names_.contains(e.name) : is_member(e, "content");
}

}  // namespace moegen::jinja
