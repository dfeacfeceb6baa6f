#pragma once

#include <memory>
#include <vector>

#include "base/thread_pool.h"
#include "engine/mask_worker.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "pipeline/pass_runner.h"
#include "plan/pass_cost.h"

namespace moegen {

/// schedule -> run -> sample -> commit. One thread drives it; the pool works within a pass.
class Loop : private LogitsConsumer {
 public:
  Loop(Scheduler& scheduler, PassRunner& executor, Sampler& sampler, ThreadPool& pool, int64_t vocab)
      : scheduler_(scheduler), executor_(executor), sampler_(sampler), pool_(pool), vocab_(vocab) {}

  struct PassCounts {
    int64_t tokens = 0;
    int64_t prefill_tokens = 0;
    int64_t sequences = 0;
    int64_t sampled = 0;
    PassLoad load;
  };

  /// One pass. Appends the sequences that ended with it.
  PassCounts step(std::vector<std::unique_ptr<Sequence>>& finished);

 private:
  void prepare_masks();
  void take(int64_t first, int64_t count, const float* logits) override;
  bool wants_best_only(int64_t first, int64_t count) const override;
  void take_best(int64_t first, int64_t count, const int32_t* ids) override;
  void take_row(const LogitTask& task, const float* logits, int worker);

  Scheduler& scheduler_;
  PassRunner& executor_;
  Sampler& sampler_;
  ThreadPool& pool_;
  int64_t vocab_;
  std::unique_ptr<MaskWorker> mask_worker_;  // from the first sequence with a grammar on
};

}  // namespace moegen
