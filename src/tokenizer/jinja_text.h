#pragma once

#include <string>

#include "tokenizer/jinja_value.h"

namespace moegen::jinja {

/// str.replace; pays before it allocates. max < 0: all.
std::string replaced(Heap& heap, const std::string& s, const std::string& from, const std::string& to, int64_t max);

}  // namespace moegen::jinja
