#pragma once

#include <string_view>

#include "grammar/code_points.h"

namespace moegen::grammar {

/// The characters of a general category of Unicode, "Lu", or of all that begin with its letter, "L"; null for other names. Thread-safe; the set
/// stays.
const CodePoints* category(std::string_view name);

}  // namespace moegen::grammar
