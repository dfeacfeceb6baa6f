#pragma once

#include <optional>
#include <vector>

#include "base/thread_pool.h"
#include "base/trace.h"
#include "model/gpu_steps.h"
#include "pipeline/cpu_share.h"
#include "pipeline/gpu_weights.h"
#include "pipeline/kv_stager.h"
#include "pipeline/pass_runner.h"
#include "pipeline/weight_stream.h"

namespace moegen {

/// Runs passes on a GPU as a device plan says. Four streams: what computes, weights to the device, KV to the device, KV to the host. The host waits
/// twice: for how many tokens each expert of a layer has, and for what is found out about logits.
class GpuExecutor : public PassRunner {
 public:
  /// Host weights that have to be on the device: views beside `table`, in `memory` as a whole.
  struct HostWeights {
    std::span<const TensorSpec> table;
    std::span<const TensorView> views;
    std::span<const WeightUnit> units;  ///< GpuWeights::device_units
    const ModelWeights& weights;        ///< by role; null for what `storage` has
    WeightStream* storage = nullptr;    ///< of Plan::weights; null: there is nothing in it
    std::byte* memory = nullptr;
    uint64_t bytes = 0;
    int64_t expanded_elements = 0;
  };
  /// What is passed must outlive it. Throws Error(out_of_memory | io).
  GpuExecutor(Device& device, const ModelSpec& spec, const HostWeights& weights, const Plan& plan, DType act, const Kernels& kernels,
              ThreadPool& pool);
  ~GpuExecutor() override;

  void run(const Pass& pass, LogitsConsumer& consumer) override;
  [[nodiscard]] std::span<std::byte> kv_page(int32_t page) override { return kv_.page(page); }
  [[nodiscard]] std::span<std::byte> state(int32_t number) override { return cpu_share_ ? cpu_share_->state(number) : std::span<std::byte>(); }
  [[nodiscard]] uint64_t link_bytes() const override { return weights_.taken_bytes() + kv_.staged_bytes(); }

 private:
  void place_tables();
  void begin_pass(const Pass& pass);
  void run_attention(size_t layer, int64_t num_tokens);
  void run_mlp(size_t layer, int64_t num_tokens);
  void run_experts(size_t layer, int64_t num_tokens);
  void share_experts(size_t layer, const int32_t* begin);
  void run_stored(size_t layer, const int32_t* begin, int64_t num_tokens);
  const MlpWeights& bring(size_t layer, int expert);
  void run_expert(const MlpWeights& mlp, size_t layer, Range rows, int64_t num_tokens);
  void run_resident(size_t layer, const int32_t* begin, int64_t num_tokens);
  [[nodiscard]] bool is_stored(size_t layer, size_t expert) const { return !host_weights_.layers[layer].experts[expert].gate; }
  void run_logits(const Pass& pass, LogitsConsumer& consumer);
  void summarize(int64_t first, const LogitsConsumer& consumer);
  void fetch_logits();

  Device& device_;
  const ModelSpec& spec_;
  PassSizes sizes_;
  ThreadPool& pool_;
  const ModelWeights& host_weights_;
  WeightStream* storage_;
  PinnedBlocks pinned_weights_, pinned_slots_;
  Stream compute_;
  DeviceBuffer memory_;
  DeviceArena arena_;
  GpuBuffers buffers_;
  GpuWeights weights_;
  KvStager kv_;
  GpuContext context_;
  CpuExperts cpu_experts_;
  std::vector<uint8_t> grouped_;                    // layers whose experts that stay run in one launch
  std::optional<CpuShare> cpu_share_;               // where the CPU takes anything
  std::vector<uint8_t> streams_, on_cpu_, copied_;  // experts of a layer: their weights are not here; who has those that have tokens
  std::vector<std::vector<float>> frequencies_;
  std::vector<LogitRow> rows_;  // of the logits that are here
  std::vector<Copy> fetches_;   // to the host, with the next logits
  HostBuffer host_embedded_, host_positions_, host_angles_, host_logit_rows_, host_expert_begin_, host_logits_, host_queries_, host_summaries_,
      host_candidates_;
  Event given_, fetched_;  // what the host has written is on the device; what the device has written is with the host
};

/// Of the largest weight that has to be expanded before it is multiplied (gpu_linear.h).
[[nodiscard]] int64_t expanded_elements(std::span<const TensorSpec> table, std::span<const TensorView> views, DType act);

}  // namespace moegen
