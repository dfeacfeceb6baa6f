#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace moegen::jinja {

struct Token {
  enum Kind { data, block_begin, block_end, variable_begin, variable_end, name, text, integer, real, op, end } kind;
  std::string value;  ///< of data, name and text (escapes resolved), digits, or the operator
  size_t line;
};

/// Cuts a template into tokens, with trim_blocks and lstrip_blocks on and one newline at the end dropped. Comments and raw
/// blocks are gone. Throws SyntaxError.
std::vector<Token> lex(std::string_view source);

/// A fault of the template's text.
struct SyntaxError {
  std::string message;
  size_t line;
};

}  // namespace moegen::jinja
