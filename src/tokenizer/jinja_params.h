#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "tokenizer/jinja_value.h"

namespace moegen::jinja {

/// The arguments of a built-in function, by position or by name. Throws where they do not fit the parameters.
class Params {
 public:
  /// The first `required` names have to be given.
  Params(const std::string& function, const Args& args, std::initializer_list<const char*> names, size_t required = 0);
  [[nodiscard]] bool has(size_t i) const { return values_[i] != nullptr; }
  [[nodiscard]] const Value& at(size_t i) const { return *values_[i]; }
  /// Present and not none.
  [[nodiscard]] bool given(size_t i) const { return has(i) && !at(i).is_none(); }
  [[nodiscard]] const std::string& text(size_t i) const;
  [[nodiscard]] std::string text(size_t i, const char* otherwise) const { return has(i) ? text(i) : std::string(otherwise); }
  [[nodiscard]] int64_t integer(size_t i, int64_t otherwise) const;
  [[nodiscard]] bool flag(size_t i, bool otherwise) const { return has(i) ? at(i).truth() : otherwise; }

 private:
  std::string function_;
  std::vector<const Value*> values_;
};

}  // namespace moegen::jinja
