#pragma once

#include <span>

#include "tokenizer/jinja_interpreter.h"
#include "tokenizer/jinja_params.h"

namespace moegen::jinja {

/// A filter: the value on its left and its arguments. `name` is what it was called by: some share their code.
struct FilterCall {
  Interpreter& in;
  const std::string& name;
  const Value& of;
  Args& args;
  [[nodiscard]] Heap& heap() const { return in.heap(); }
  [[nodiscard]] std::string text() const { return in.text_of(of); }
  /// Markup where the value is.
  [[nodiscard]] Value give(std::string s) const { return heap().text_like(of, std::move(s)); }
  [[nodiscard]] Params params(std::initializer_list<const char*> names, size_t required = 0) const { return Params(name, args, names, required); }
};
using FilterCode = Value (*)(const FilterCall&);

struct FilterEntry {
  const char* name;
  FilterCode code;
};

/// The groups.
std::span<const FilterEntry> text_filters();
std::span<const FilterEntry> layout_filters();
std::span<const FilterEntry> markup_filters();
std::span<const FilterEntry> sequence_filters();
/// nullptr for a name that no group has.
FilterCode find_filter(const std::string& name);

/// `a.b.0` of a value, as the attribute arguments of filters name it; `otherwise` (may be null) stands for each step that is missing.
Value nested_attribute(Interpreter& in, const Value& of, const Value& path, const Value* otherwise = nullptr);

}  // namespace moegen::jinja
