#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "tokenizer/regex.h"

namespace moegen::text {

/// The "normalizer" of tokenizer.json. Immutable.
class Normalizer {
 public:
  /// `spec` may be null: nothing is done. Throws Error(unsupported | corrupt).
  static Normalizer parse(const nlohmann::json& spec);
  Normalizer();
  ~Normalizer();
  Normalizer(Normalizer&&) noexcept;
  Normalizer& operator=(Normalizer&&) noexcept;
  [[nodiscard]] bool empty() const { return steps_.empty(); }
  /// Returns how many characters at the begin stand for the first of the text; 0: it begins further on. For Metaspace's "first".
  size_t apply(std::string& text, Regex::Scratch& scratch) const;

  struct Step;

 private:
  std::vector<std::unique_ptr<const Step>> steps_;
};

}  // namespace moegen::text
