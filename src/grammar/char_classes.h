#pragma once

#include <optional>

#include "grammar/code_points.h"

namespace moegen::grammar {

/// What \d, \D, \w, \W, \s or \S stands for; nothing for another letter. Dialects differ beyond ASCII: narrow is what ECMA-262,
/// Python and Unicode's regexes (UTS 18) all take, `wide` has at least what one of them takes. Within [^..] ask for the wide one,
/// then what is left is narrow.
std::optional<CodePoints> class_escape(char letter, bool wide);

/// . without flags: no line end.
CodePoints any_but_line_ends();

}  // namespace moegen::grammar
