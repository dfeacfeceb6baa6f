#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/reasoning_gate.h"
#include "grammar/grammar.h"
#include "moegen/request.h"

namespace moegen {

/// The sampling of a request with every default filled in and every word turned into ids. Shared by its sequences.
struct Sampling {
  double temperature = 1;  ///< 0: greedy
  double top_p = 1;
  int64_t top_k = 0;  ///< 0: off
  double min_p = 0;
  double repetition_penalty = 1;
  double presence_penalty = 0;
  double frequency_penalty = 0;
  uint64_t seed = 0;
  int64_t min_tokens = 0;
  int64_t max_tokens = 0;
  int64_t max_len = 0;           ///< prompt and generated tokens together
  std::vector<TokenId> end_ids;  ///< end of sequence, unless ignored
  std::vector<TokenId> stop_ids;
  std::vector<std::vector<TokenId>> bad_words;
  std::vector<TokenId> allowed;  ///< empty: all
  std::vector<std::pair<TokenId, float>> logit_bias;
  std::optional<int> logprobs;  ///< k best
  std::optional<int> prompt_logprobs;
};

/// Log-probabilities of consecutive positions, flat: for each the token that stands there, then the k best.
struct LogprobTable {
  struct Entry {
    TokenId id = 0;
    float logprob = 0;
    int32_t rank = 0;
  };
  int per_position = 0;  ///< 1 + k; 0: not wanted
  std::vector<Entry> entries;
};

/// Decides, beyond ids and limits, whether a text is complete (stop strings).
class StopRule {
 public:
  virtual ~StopRule() = default;
  /// Called once for every generated token, in order. `ended_by_id`: it is an end or stop id.
  virtual bool complete(TokenId token, bool ended_by_id) = 0;
};

/// One choice of one request on its way through the engine. Owned by the scheduler until it has finished.
struct Sequence {
  int64_t request = 0;  ///< the owner's key
  int choice = 0;
  std::shared_ptr<const Sampling> sampling;
  std::unique_ptr<StopRule> stop_rule;    ///< or null
  std::unique_ptr<GrammarState> grammar;  ///< behind the generated tokens of the answer; or null
  ReasoningGate reasoning;                ///< where the grammar begins
  std::vector<TokenId> tokens;            ///< prompt, then generated
  int64_t prompt_len = 0;
  bool on_cpu = false;  ///< PassSequence's

  int64_t computed = 0;              ///< positions whose K and V were put into pages
  std::vector<int32_t> pages;        ///< KvAccount's table
  bool kept = false;                 ///< preempted, and what it has computed is in the SequenceStore
  int32_t state = -1;                ///< number of its recurrent state while it runs
  LogprobTable prompt_logprobs;      ///< from position 1 on
  int64_t prompt_logprobs_done = 0;  ///< positions
  LogprobTable logprobs;
  TokenId next_token = 0;  ///< sampled in this pass, not yet committed

  FinishReason finish_reason = FinishReason::length;
  std::optional<TokenId> stop_id;  ///< which of stop_ids ended it
  bool ended_by_id = false;        ///< the last token is an end or stop id
  std::string error;               ///< not empty: failed
  bool failed_in_grammar = false;  ///< the error is not about memory

  [[nodiscard]] bool in_grammar() const { return grammar != nullptr && !reasoning.inside(); }
  [[nodiscard]] int64_t num_generated() const { return static_cast<int64_t>(tokens.size()) - prompt_len; }
};

}  // namespace moegen
