#pragma once

#include <string>

#include "tokenizer/jinja_value.h"

namespace moegen::jinja {

/// str.replace; pays before it allocates. max < 0: all.
std::string replaced(Heap& heap, const std::string& s, const std::string& from, const std::string& to, int64_t max);

/// With &, <, >, ' and " as HTML writes them; markup stays.
std::string escaped(Heap& heap, const std::string& s);
std::string escaped(Heap& heap, const Value& v);

/// Without tags and comments, runs of white space as one space, and the entities that `escape` makes as characters.
std::string without_tags(Heap& heap, const std::string& s);
std::string unescaped(std::string_view s);

}  // namespace moegen::jinja
