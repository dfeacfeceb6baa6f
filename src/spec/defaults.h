#pragma once

#include <string_view>

namespace moegen {

/// What the config class of transformers has for fields that a config.json leaves out (a null is no such field): a JSON object. Sizes that a
/// checkpoint cannot do without (vocabulary, layers, experts) are not among them: to leave those out is an error.
/// Source: transformers 5.23, models/*/configuration_*.py.
[[nodiscard]] std::string_view defaults_of(std::string_view model_type);

}  // namespace moegen
