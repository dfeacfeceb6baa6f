#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "moegen/options.h"
#include "moegen/request.h"

namespace moegen {

struct ModelTexts;

/// How long prompts are, before an engine is there: for a plan. Thread-safe.
class PromptCounter {
 public:
  /// Reads the model's config.json, tokenizer and chat template. Throws Error as Engine does.
  explicit PromptCounter(const EngineOptions& options);

  /// Tokens of a prompt, of a long one about: some parts of it are looked at. Empty where a run would refuse it.
  [[nodiscard]] std::optional<int64_t> count(const Prompt& prompt) const;
  /// Tokens that a sequence may have.
  [[nodiscard]] int64_t context() const { return context_; }
  /// What the engine takes over, so that it is loaded once.
  [[nodiscard]] const std::shared_ptr<const ModelTexts>& texts() const { return texts_; }

 private:
  [[nodiscard]] std::optional<int64_t> count_any(const Prompt& prompt) const;

  std::shared_ptr<const ModelTexts> texts_;
  int64_t context_;
};

}  // namespace moegen
