#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/model.h"
#include "engine/sequence.h"
#include "grammar/compiler.h"
#include "moegen/request.h"
#include "output/parse_output.h"

namespace moegen {

/// Thrown within the admission of one request, caught by it.
struct Refused {
  RequestError error;
};

/// A request that was checked. Its sequences are made one by one, so that a request for many choices of many prompts takes
/// memory for those in flight only.
struct Admitted {
  std::vector<PromptResult> prompts;        ///< as the answer shows them
  std::shared_ptr<const Sampling> first;    ///< of the first choice of a prompt
  std::shared_ptr<const Sampling> further;  ///< of the others: no prompt log-probabilities again
  std::shared_ptr<Grammar> grammar;         ///< or null
  int choices_per_prompt = 1;
  uint64_t hash = 0;                                              ///< of what it is, wherever it stands
  uint64_t held_bytes = 0;                                        ///< what it takes until it is answered, beside KV pages and what goes with them
  uint64_t peak_bytes = 0;                                        ///< and while its answer is written, once
  std::vector<OutputContext> output;                              ///< of every prompt: how its answers are read
  std::vector<std::shared_ptr<const ReasoningTokens>> reasoning;  ///< of every prompt, with a grammar: what may come before it

  [[nodiscard]] size_t num_sequences() const { return prompts.size() * static_cast<size_t>(choices_per_prompt); }
};

/// Requests -> sequences: texts and conversations become ids, defaults are filled in, everything that the model decides is checked.
class Admission {
 public:
  /// `capacity`: the longest sequence, in tokens, that the KV pages hold. `answer_bytes`: for all requests and answers in flight.
  Admission(const LoadedModel& model, uint64_t seed, int64_t capacity, uint64_t answer_bytes);

  /// Throws Refused.
  [[nodiscard]] Admitted admit(const Request& request);
  /// Sequence `choice` of an admitted request; its `prompts` must not have been given away.
  [[nodiscard]] std::unique_ptr<Sequence> make_sequence(const Admitted& admitted, const std::vector<TokenId>& prompt, int choice) const;

 private:
  [[nodiscard]] std::vector<TokenId> to_ids(const Prompt& prompt, const Request& request, std::string& text) const;
  [[nodiscard]] std::string render(const Chat& chat) const;
  [[nodiscard]] OutputContext output_context(const Chat& chat, std::string_view rendered) const;
  [[nodiscard]] std::shared_ptr<const ReasoningTokens> reasoning_tokens(const OutputContext& output) const;
  [[nodiscard]] Sampling resolve(const Request& request) const;
  [[nodiscard]] std::vector<std::vector<TokenId>> bad_words(const std::vector<std::string>& words) const;
  [[nodiscard]] std::shared_ptr<Grammar> compile(const SamplingParams& params);
  void check_ids(const std::vector<TokenId>& ids, const char* param) const;
  void check_counts(const Sampling& sampling) const;
  void charge(Admitted& admitted) const;
  void check_length(const std::vector<TokenId>& ids, const Sampling& sampling, const char* param) const;

  const LoadedModel& model_;
  uint64_t seed_;
  int64_t capacity_;
  uint64_t answer_bytes_;
  std::optional<GrammarCompiler> grammars_;  // with a tokenizer
};

}  // namespace moegen
