#pragma once

#include <vector>

#include "base/trace.h"
#include "memory/mapped_memory.h"
#include "model/steps.h"
#include "pipeline/expert_batch.h"
#include "pipeline/pass_runner.h"
#include "pipeline/weight_stream.h"
#include "plan/plan.h"

namespace moegen {

/// Runs passes as the plan says: layer by layer, module by module, micro-batch by micro-batch. Chooses nothing.
/// Owns the KV pages, recurrent states and the buffers; after construction it allocates nothing.
class Executor : public PassRunner {
 public:
  /// Everything that is passed must outlive the executor. `stream` has the MLPs that `weights` lacks; null where it lacks none.
  /// `trace`: what is told when each module ran; may be null.
  /// Throws Error(out_of_memory).
  Executor(const ModelSpec& spec, const ModelWeights& weights, WeightStream* stream, const Kernels& kernels, ThreadPool& pool, const Plan& plan,
           DType act, Trace* trace = nullptr);

  void run(const Pass& pass, LogitsConsumer& consumer) override;
  [[nodiscard]] std::span<std::byte> kv_page(int32_t page) override {
    return {kv_pages_.data() + static_cast<size_t>(page) * kv_.page_bytes, kv_.page_bytes};
  }
  [[nodiscard]] std::span<std::byte> state(int32_t number) override {
    return {states_.data() + static_cast<size_t>(number) * kv_.state_bytes(), kv_.state_bytes()};
  }

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
  std::vector<LogitRow> logit_rows_;
  std::vector<std::vector<float>> frequencies_;
  StepContext context_;
};

}  // namespace moegen
