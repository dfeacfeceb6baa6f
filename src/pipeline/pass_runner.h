#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/logit_summary.h"
#include "model/pass.h"

namespace moegen {

/// A row of logits, or what was found out about it.
struct LogitRow {
  const float* logits = nullptr;  ///< [vocab]; null: there is a summary, or nothing
  const LogitSummary* summary = nullptr;
  const LogitCandidate* candidates = nullptr;  ///< [min(vocab, kLogitCandidates)], best first, where they were asked for
  bool needs_logits = false;                   ///< the consumer's answer: the summary does not suffice
};

/// Takes the logits of a pass, some rows at a time.
class LogitsConsumer {
 public:
  virtual ~LogitsConsumer() = default;
  /// What to find out about row pass.logit_rows[row], for a runner that can; others hand over the row.
  [[nodiscard]] virtual LogitQuery query(int64_t /*row*/) const { return {.whole = true}; }
  /// Rows pass.logit_rows[first + i]; what they point to is valid during the call. Those that need logits come again, among rows with nothing.
  virtual void take(int64_t first, std::span<LogitRow> rows) = 0;
};

/// Runs passes: Executor on the CPU, GpuExecutor on a GPU.
class PassRunner {
 public:
  PassRunner() = default;
  virtual ~PassRunner() = default;
  PassRunner(const PassRunner&) = delete;
  PassRunner& operator=(const PassRunner&) = delete;

  /// One sweep through the layers, then the logits. K and V of the pass's tokens are in their pages afterwards, for the next pass.
  /// Throws Error(io) where streamed weights cannot be read, or a device fails.
  virtual void run(const Pass& pass, LogitsConsumer& consumer) = 0;

  /// What a KV page holds, in host memory, and what a sequence of that number keeps for layers of linear attention; to be read and written between
  /// passes.
  [[nodiscard]] virtual std::span<std::byte> kv_page(int32_t page) = 0;
  [[nodiscard]] virtual std::span<std::byte> state(int32_t number) = 0;

  /// Of weights that were used and of K and V, brought to a device since the begin.
  [[nodiscard]] virtual uint64_t link_bytes() const { return 0; }

  /// How the tokens of the last pass met the experts, over all layers.
  struct ExpertLoad {
    int64_t tokens = 0;   ///< a token counts once for each of its experts
    int64_t used = 0;     ///< experts that have any
    int64_t experts = 0;  ///< all
    int64_t most = 0;     ///< tokens of the one that has the most
  };
  [[nodiscard]] const ExpertLoad& expert_load() const { return expert_load_; }
  /// The layer that is computed just now; -1 between passes. Any thread.
  [[nodiscard]] int layer() const noexcept { return layer_.load(std::memory_order_relaxed); }

 protected:
  /// Of a layer whose expert e has rows [begin[e], begin[e + 1]).
  void count_experts(const int32_t* begin, size_t num_experts) {
    expert_load_.experts += static_cast<int64_t>(num_experts);
    for (size_t e = 0; e < num_experts; ++e) {
      const int64_t rows = begin[e + 1] - begin[e];
      expert_load_.tokens += rows;
      expert_load_.used += rows > 0 ? 1 : 0;
      expert_load_.most = std::max(expert_load_.most, rows);
    }
  }

  ExpertLoad expert_load_;
  std::atomic<int> layer_{-1};
};

}  // namespace moegen
