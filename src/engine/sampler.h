#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/sequence.h"
#include "kernels/functions.h"
#include "memory/arena.h"
#include "pipeline/pass_runner.h"

namespace moegen {

/// Turns rows of logits into tokens and log-probabilities, with the meaning and the order of vLLM's V1 sampler: raw
/// log-probabilities first; then the grammar, allowed ids, bad words, minimum length, logit bias, penalties; temperature, min-p, top-k,
/// top-p; then the draw. The draw uses a counter-based generator (Philox 4x32-10, Salmon et al. 2011) keyed by the request's
/// seed, counted by choice and position: a token depends on its own sequence only.
class Sampler {
 public:
  /// Bytes that `workers` workers need.
  static uint64_t bytes_needed(int64_t vocab, int workers);
  Sampler(const Kernels& kernels, int64_t vocab, int workers);

  static constexpr TokenId kNoToken = -1;

  /// What a device is to find out about the row of the sequence's next token, or about one before the prompt's token at `position`, for the
  /// functions below.
  [[nodiscard]] static LogitQuery query(const Sequence& sequence);
  [[nodiscard]] static LogitQuery prompt_query(const Sequence& sequence, int64_t position);

  /// Picks the next token of a sequence, or kNoToken where none is allowed or the logits are not numbers; nothing where the row is a summary that
  /// does not tell. Calls with different workers may run at the same time. Where bans and minimum length leave nothing of what the grammar allows,
  /// the grammar wins. Throws Error(unsupported) where the grammar cannot go on.
  std::optional<TokenId> sample(const Sequence& sequence, const LogitRow& row, int worker);

  /// Writes `count` = 1 + k entries: `token`, then the k best of the raw distribution (all of them for k = vocab). Of a summary: `token` is the one
  /// that was asked for, or sampled from it.
  void logprobs(const LogitRow& row, TokenId token, int count, LogprobTable::Entry* out, int worker);

 private:
  struct Scratch {
    float* values;    // [vocab]
    int32_t* ids;     // [vocab]
    int32_t* counts;  // [vocab], zero between calls
  };

  void restrict_to_grammar(const Sequence& sequence, const float* logits, float* values) const;
  void filter(const Sequence& sequence, float* values, const Scratch& scratch) const;
  void penalize(const Sequence& sequence, float* values, int32_t* counts) const;
  std::optional<TokenId> draw(const Sequence& sequence, const LogitRow& row, const Scratch& scratch) const;
  std::optional<int64_t> keep_candidates(const Sampling& s, const LogitRow& row, const Scratch& scratch, float top) const;
  [[nodiscard]] std::span<const LogitCandidate> candidates_of(const LogitRow& row) const;
  void logprobs_of_summary(const LogitRow& row, TokenId token, int64_t k, LogprobTable::Entry* out) const;
  TokenId draw_any(float* values, float top, double u) const;
  static double mass_of(const Scratch& scratch, int64_t n, float top);
  TokenId argmax(const float* values) const;

  const Kernels& kernels_;
  int64_t vocab_;
  Arena arena_;
  std::vector<Scratch> scratch_;
};

/// Uniform in [0, 1) from key and counters.
[[nodiscard]] double uniform(uint64_t key, uint32_t stream, uint64_t position);

}  // namespace moegen
