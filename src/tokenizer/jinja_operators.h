#pragma once

#include <optional>

#include "tokenizer/jinja_value.h"

namespace moegen::jinja {

Value binary(Heap& heap, const std::string& op, const Value& a, const Value& b);
bool contains(Heap& heap, const Value& container, const Value& what);
/// Throws what the value says where it is undefined.
void require_defined(const Value& v);
Value slice_of(Heap& heap, const Value& of, const Value& begin, const Value& end, const Value& step);
/// '%' on a text. `may_be_left`: arguments that the text does not ask for are no error.
Value format_percent(Heap& heap, const Value& pattern, const Args& args, bool may_be_left);

}  // namespace moegen::jinja
