#pragma once

#include "tokenizer/jinja_value.h"

namespace moegen::jinja {

/// str() and repr(). They pay the heap for what they write.
std::string to_text(Heap& heap, const Value& v);
std::string to_repr(Heap& heap, const Value& v);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  int64_t indent = -1;           ///< -1: one line
  std::string indent_text = {};  ///< in place of so many spaces
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};

/// json.dumps. Throws for values that JSON cannot hold.
std::string to_json(Heap& heap, const Value& v, const JsonStyle& style);

}  // namespace moegen::jinja
