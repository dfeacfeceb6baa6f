#pragma once

#include <memory>
#include <string>
#include <vector>

#include "api/model.h"
#include "engine/sequence.h"
#include "moegen/request.h"

namespace moegen {

/// Thrown within the admission of one request, caught by it.
struct Refused {
  RequestError error;
};

/// A request, ready for the scheduler: its sequences in the order of choices, and the prompts as the answer shows them.
struct Admitted {
  std::vector<PromptResult> prompts;
  std::vector<std::unique_ptr<Sequence>> sequences;
};

/// Requests -> sequences: texts and conversations become ids, defaults are filled in, everything that the model decides is checked.
class Admission {
 public:
  /// `capacity`: tokens that all KV pages hold together.
  Admission(const LoadedModel& model, uint64_t seed, int64_t capacity) : model_(model), seed_(seed), capacity_(capacity) {}

  /// Throws Refused.
  [[nodiscard]] Admitted admit(const Request& request) const;

 private:
  [[nodiscard]] std::vector<TokenId> to_ids(const Prompt& prompt, const Request& request, std::string& text) const;
  [[nodiscard]] std::string render(const Chat& chat) const;
  [[nodiscard]] Sampling resolve(const Request& request) const;
  [[nodiscard]] std::vector<std::vector<TokenId>> bad_words(const std::vector<std::string>& words) const;
  void check_ids(const std::vector<TokenId>& ids, const char* param) const;
  void check_length(const std::vector<TokenId>& ids, const char* param) const;
  [[nodiscard]] std::unique_ptr<Sequence> make_sequence(const std::shared_ptr<const Sampling>& sampling, const std::vector<TokenId>& ids, int choice) const;

  const LoadedModel& model_;
  uint64_t seed_;
  int64_t capacity_;
};

}  // namespace moegen
