#pragma once

#include <cstdint>

namespace moegen {

/// What is to be found out about a row of logits for who does without the row.
struct LogitQuery {
  static constexpr int32_t kNoId = -1, kBest = -2, kDrawn = -3;

  double u = 0;           ///< of kDrawn, uniform in [0, 1)
  float temperature = 0;  ///< of heated_sum and kDrawn; 0: neither is wanted
  int32_t id = kNoId;     ///< LogitSummary::id: that one; the best, the lowest of equals; or the first id whose weights exp(logit / temperature),
                          ///< with those of all lower ids, are more than u of all
  bool logprob = false;   ///< what the log-probability of id is made of is wanted: sum, value and rank
  bool candidates = false;
  bool whole = false;  ///< the row itself is wanted, and nothing else
};

struct LogitSummary {
  float top = 0;         ///< the largest; NaNs are passed over
  float sum = 0;         ///< of exp(logit - top), where a log-probability is wanted
  float heated_sum = 0;  ///< of exp(logit / temperature - top / temperature)
  int32_t id = -1;       ///< negative: none was asked for, or the best is no number
  float value = 0;       ///< of id, where its log-probability is wanted,
  int32_t rank = 0;      ///< and 1 + how many are larger
};

/// One of the best of a row, in the sampler's order: the larger value, then the lower id; a NaN is as minus infinity.
struct LogitCandidate {
  float value = 0;
  int32_t id = 0;
};
constexpr int kLogitCandidates = 128;  ///< of a row, or all of a smaller vocabulary; more than log-probabilities and the usual top-k (20, 50, 64)

}  // namespace moegen
