#pragma once

#include <string>
#include <string_view>

#include "tokenizer/jinja_interpreter.h"

namespace moegen::jinja {

/// str.format: fields by place or name, with attributes, indices, conversions and format specs. The result has the pattern's kind: markup escapes.
Value format_braces(Interpreter& in, const Value& pattern, const Args& args);

/// format(value, spec) of Python for texts and numbers; without `n`, `c` and `#` of floats.
std::string formatted(Interpreter& in, const Value& value, std::string_view spec);

}  // namespace moegen::jinja
