#include "tokenizer/jinja_params.h"

#include <algorithm>

#include "tokenizer/jinja_operators.h"

namespace moegen::jinja {

Params::Params(const std::string& function, const Args& args, std::initializer_list<const char*> names, size_t required)
    : function_(function), values_(names.size(), nullptr) {
  if (args.positional.size() > names.size()) fail(function + "() takes at most " + std::to_string(names.size()) + " argument(s)");
  for (size_t i = 0; i < args.positional.size(); ++i) values_[i] = &args.positional[i];
  for (const auto& [name, value] : args.named) {
    const auto* it = std::find_if(names.begin(), names.end(), [&key = name](const char* n) { return key == n; });
    if (it == names.end()) fail(function + "() got an unexpected keyword argument '" + name + "'");
    const Value*& slot = values_[static_cast<size_t>(it - names.begin())];
    if (slot != nullptr) fail(function + "() got multiple values for argument '" + name + "'");
    slot = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (values_[i] == nullptr) fail(function + "() missing required argument '" + *(names.begin() + i) + "'");
  }
}

const std::string& Params::text(size_t i) const {
  require_defined(at(i));
  if (at(i).text() == nullptr) fail(function_ + "() argument must be str, not " + at(i).type_name());
  return *at(i).text();
}

int64_t Params::integer(size_t i, int64_t otherwise) const {
  int64_t v = otherwise;
  if (!has(i) || at(i).as_integer(v)) return v;
  require_defined(at(i));
  fail(function_ + "(): '" + at(i).type_name() + "' object cannot be interpreted as an integer");
}

}  // namespace moegen::jinja
