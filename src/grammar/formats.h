#pragma once

#include <string_view>

namespace moegen::grammar {

/// A regular expression for texts of a `format` of JSON Schema; every match is valid, rare forms are left out. Empty if the
/// format is not known here.
std::string_view format_pattern(std::string_view format);

}  // namespace moegen::grammar
