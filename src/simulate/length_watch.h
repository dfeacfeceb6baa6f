#pragma once

#include <cstdint>

#include "moegen/options.h"

namespace moegen {

/// How long answers turn out to be, where they may end before their limit. Any token may be the last, with the share of tokens that was so
/// far; answers that still run, or that met their limit, count with what they have, so that short ones, which end first, do not mislead.
class LengthWatch {
 public:
  /// Since the last call: tokens that were generated, and answers that ended before their limit.
  void add(int64_t tokens, int64_t ends) {
    tokens_ += tokens;
    ends_ += ends;
  }
  /// Tokens of an answer that may have `limit`, on average; at most that, and that where no answer has ended by itself.
  [[nodiscard]] double expected(int64_t limit) const;

 private:
  int64_t tokens_ = 0;
  int64_t ends_ = 0;
};

/// `count` requests as those of a job, with answers as long as is expected now.
[[nodiscard]] Workload rest_of(const Workload& workload, int64_t count, const LengthWatch& lengths);

}  // namespace moegen
