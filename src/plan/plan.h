#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "model/buffers.h"
#include "model/kv_layout.h"
#include "plan/device_plan.h"
#include "plan/gpu_plan.h"
#include "plan/weight_plan.h"
#include "spec/model_spec.h"

namespace moegen {

constexpr int64_t kDefaultPassTokens = 4096;  ///< beyond about this many, no kernel of a CPU gets faster
constexpr int64_t kDefaultExpertMicroBatch = 1024;

/// The disk that keeps preempted sequences.
struct Swap {
  uint64_t bytes = 0;    ///< 0: they are computed again
  double bandwidth = 0;  ///< bytes/s, in and out
  bool always = false;   ///< also what is computed again in less time
};

/// What a plan is made from. Sizes in bytes; an empty optional is the planner's to choose.
struct PlanInput {
  const ModelSpec* spec = nullptr;
  DType act = DType::bf16;
  DType kv_dtype = DType::bf16;
  const ModelWork* work = nullptr;    ///< of its weights as they are used; with a GPU, there
  uint64_t weight_bytes = 0;          ///< of all weights in memory
  std::span<const WeightUnit> units;  ///< those of them that can stream; empty: none
  uint64_t process_bytes = 0;         ///< what the process takes beside this plan: program, tokenizer, sampler
  uint64_t host_memory = 0;
  std::optional<uint64_t> weight_memory, kv_memory;
  int64_t wanted_context = 0;  ///< tokens of a sequence that the KV pages are to hold, if the budgets allow it at all
  std::optional<int64_t> max_model_len, max_num_seqs, max_pass_tokens, attention_micro_batch, expert_micro_batch, weight_slots;
  Swap swap;
  int threads = 1;
  std::optional<GpuInput> gpu;           ///< of a machine that has one
  const DeviceBudget* device = nullptr;  ///< of a run on it, beside `gpu`; null: it is only simulated
};

/// Every size of a run, decided before it. All memory that the run takes is in `memory`.
struct Plan {
  PassSizes sizes;
  int64_t max_model_len = 0;
  int32_t kv_pages = 0;
  Swap swap;
  uint64_t answer_bytes = 0;  ///< for requests and answers in flight: lines, texts, log-probabilities
  KvLayout kv;
  WeightPlan weights;
  std::optional<GpuPlan> gpu;                               ///< where weights and KV are, if there is one; `weights` is empty then
  std::optional<DevicePlan> device;                         ///< of a run on a GPU
  std::vector<std::pair<std::string, uint64_t>> memory;     ///< of the host: purpose, bytes
  [[nodiscard]] std::vector<std::string> describe() const;  ///< a line each, for people
};

/// Pure. Throws Error(out_of_memory) with the numbers where the budgets do not hold the least that would do, and
/// Error(invalid_argument) for options that contradict the model or each other.
[[nodiscard]] Plan make_plan(const PlanInput& input);

/// Parts of it that do not depend on where computation happens.
/// @{
/// The context that a run allows: the option's, which may not exceed the model's, else the model's.
[[nodiscard]] int64_t choose_max_model_len(const PlanInput& input);
/// Sequences in flight where nothing is asked for: `most`, or as many as a third of host memory holds the recurrent states of, which they have
/// whether they are long or short.
[[nodiscard]] int64_t default_sequences(const PlanInput& input, int64_t most);
/// For requests and answers in flight.
[[nodiscard]] uint64_t choose_answer_bytes(uint64_t host_memory);
/// Bytes for weights in host memory: the option's, which is refused where it is too small; else all, where `rest`, the least of everything else,
/// leaves them; else half.
[[nodiscard]] uint64_t choose_weight_budget(const PlanInput& input, uint64_t rest);
/// Bytes of a page, with what its share of a sequence's tokens takes beside it: ids, text, page table.
[[nodiscard]] uint64_t page_cost(const KvLayout& kv, int64_t max_model_len);
/// @}

}  // namespace moegen
