#pragma once

#include <memory>
#include <optional>

#include "api/gpu_setup.h"
#include "api/model_texts.h"
#include "base/thread_pool.h"
#include "base/trace.h"
#include "checkpoint/weight_store.h"
#include "kernels/functions.h"
#include "model/weights.h"
#include "moegen/options.h"
#include "output/output_format.h"
#include "pipeline/pass_runner.h"
#include "pipeline/weight_stream.h"
#include "plan/machine.h"
#include "plan/plan.h"
#include "simulate/planner.h"

namespace moegen {

/// Sizes and budgets that options name.
void set_sizes(PlanInput& budget, const EngineOptions& options);
/// Whether preempted sequences are kept on a disk.
[[nodiscard]] bool swaps(const EngineOptions& options);
/// How fast that is taken to be: as the storage of the weights is read, where that is known.
[[nodiscard]] double swap_bandwidth(const Machine* machine);

/// Whether `--kv-dtype int8` is there for it.
[[nodiscard]] bool can_keep_int8(const ModelSpec& spec);
/// Types that options name. Throw Error.
/// @{
DType choose_act(const EngineOptions& options, const ModelSpec& spec);
DType choose_kv_dtype(const EngineOptions& options, DType act, const ModelSpec& spec);
/// @}

/// What the options ask for, resolved against the model and the machine: everything that can be refused is refused here, before weights are
/// read. Members in the order of their making.
struct ModelSetup {
  explicit ModelSetup(const EngineOptions& options);

  ModelSpec spec;
  GenerationDefaults defaults;
  std::shared_ptr<const ModelTexts> texts;
  const Tokenizer* tokenizer = nullptr;         ///< null without one
  const ChatTemplate* chat_template = nullptr;  ///< null without a tokenizer
  std::optional<OutputFormat> output_format;    ///< empty: that of the template of each conversation
  const Kernels& kernels;
  DType act;
  DType kv_dtype;
  ThreadPool pool;
  std::optional<Checkpoint> checkpoint;  ///< empty for dummy weights
  Binding binding;
  std::vector<WeightUnit> units;     ///< what can stream; empty for dummy weights
  std::optional<Machine> machine;    ///< its rates, where they are known
  std::string machine_origin;        ///< where they come from, for people
  ModelWork work;                    ///< with weights as they are where they are used
  PlanInput budget;                  ///< what sizes are chosen from
  std::optional<Decision> decision;  ///< of the planner, where rates and requests are known
  std::optional<GpuSetup> gpu;       ///< where a GPU computes
  Plan plan;
};

/// A checkpoint, loaded for a run.
struct LoadedModel : ModelSetup {
  explicit LoadedModel(const EngineOptions& options);

  std::optional<WeightStore> store;
  ModelWeights weights;                ///< without those that stream
  std::optional<Trace> trace;          ///< of the whole run, if one is asked for
  std::optional<WeightStream> stream;  ///< empty where all weights stay
  std::unique_ptr<PassRunner> runner;  ///< on the CPU, or on the GPU
  std::vector<int32_t> end_ids;        ///< generation_config.json's, else config.json's; and the tokenizer's, as vLLM does
};

}  // namespace moegen
