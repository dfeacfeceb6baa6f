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
  Loop(Scheduler& scheduler, PassRunner& executor, Sampler& sampler, ThreadPool& pool)
      : scheduler_(scheduler), executor_(executor), sampler_(sampler), pool_(pool) {}

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
  LogitQuery query(int64_t row) const override;
  void take(int64_t first, std::span<LogitRow> rows) override;
  void take_row(const LogitTask& task, LogitRow& row, int worker);

  Scheduler& scheduler_;
  PassRunner& executor_;
  Sampler& sampler_;
  ThreadPool& pool_;
  std::unique_ptr<MaskWorker> mask_worker_;  // from the first sequence with a grammar on
};

}  // namespace moegen
