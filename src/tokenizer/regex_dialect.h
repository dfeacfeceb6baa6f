#pragma once

#include <string>
#include <string_view>

namespace moegen::text {

/// Rewrites a pattern as tokenizer.json holds it (the dialect of Oniguruma and of Rust's regex) into PCRE2's: what a
/// space, a word character and a script are, nested classes, `&&` inside classes, `\uXXXX`.
/// Throws Error(unsupported) for what has no counterpart.
std::string to_pcre2(std::string_view pattern);

}  // namespace moegen::text
