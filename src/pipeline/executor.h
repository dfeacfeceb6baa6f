#pragma once

#include <atomic>
#include <vector>

#include "base/trace.h"
#include "memory/mapped_memory.h"
#include "model/steps.h"
#include "pipeline/expert_batch.h"
#include "pipeline/weight_stream.h"
#include "plan/plan.h"

namespace moegen {

/// Takes the logits of a pass, some rows at a time.
class LogitsConsumer {
 public:
  virtual ~LogitsConsumer() = default;
  /// Rows pass.logit_rows[first .. first + count); logits [count, vocab] are valid during the call.
  virtual void take(int64_t first, int64_t count, const float* logits) = 0;
};

/// Runs passes as the plan says: layer by layer, module by module, micro-batch by micro-batch. Chooses nothing.
/// Owns the KV pages, recurrent states and the buffers; after construction it allocates nothing.
class Executor {
 public:
  /// Everything that is passed must outlive the executor. `stream` has the MLPs that `weights` lacks; null where it lacks none.
  /// `trace`: what is told when each module ran; may be null.
  /// Throws Error(out_of_memory).
  Executor(const ModelSpec& spec, const ModelWeights& weights, WeightStream* stream, const Kernels& kernels, ThreadPool& pool, const Plan& plan,
           DType act, Trace* trace = nullptr);
  Executor(const Executor&) = delete;  // the context points into it
  Executor& operator=(const Executor&) = delete;

  /// One sweep through the layers, then the logits. K and V of the pass's tokens are in their pages afterwards.
  /// Throws Error(io) where streamed weights cannot be read.
  void run(const Pass& pass, LogitsConsumer& consumer);
  /// What a KV page holds: KvLayout::page_bytes.
  [[nodiscard]] std::span<std::byte> kv_page(int32_t page) { return {kv_pages_.data() + static_cast<size_t>(page) * kv_.page_bytes, kv_.page_bytes}; }

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

 private:
  void run_attention(const Pass& pass, size_t layer, const Wave& wave);
  void run_mlp(int64_t num_tokens, size_t layer);
  void run_experts(size_t layer);
  bool run_resident(ExpertBatch& batch, size_t layer, size_t& next, int most) const;

  PassSizes sizes_;
  WeightStream* stream_;  // null: every weight stays
  Trace* trace_;
  KvLayout kv_;
  MappedMemory kv_pages_;
  MappedMemory states_;
  Arena arena_;
  Buffers buffers_;
  std::vector<std::vector<float>> frequencies_;
  StepContext context_;
  ExpertLoad expert_load_;
  std::atomic<int> layer_{-1};
};

}  // namespace moegen
