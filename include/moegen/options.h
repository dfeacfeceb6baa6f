#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace moegen {

/// Of a request that is expected.
struct RequestLength {
  int32_t prompt_tokens = 0;
  int32_t output_tokens = 0;
};

/// What a job asks for, as far as its time depends on it.
struct Workload {
  std::string name;  ///< where it comes from, for people
  std::vector<RequestLength> requests;
  bool complete = false;  ///< there is nothing beside these, even if there are none
};

class PromptCounter;

/// What was decided about a run, and where its model lies.
struct EngineInfo {
  std::string model_name;  ///< base name of the directory
  std::string family;
  std::string dtype;
  std::string cpu_path;
  std::string device;  ///< that computes: "cpu", or the GPU's name
  int64_t vocab_size = 0;
  int64_t max_model_len = 0;
  int num_layers = 0;
  int threads = 0;
  uint64_t answer_memory = 0;               ///< bytes of host_memory that requests and answers in flight may take
  uint64_t host_memory = 0;                 ///< bytes that the run may take
  uint64_t planned_memory = 0;              ///< and what it will
  int64_t pass_tokens = 0;                  ///< of a pass, at most
  int64_t sequences = 0;                    ///< in flight, at most
  std::optional<double> predicted_seconds;  ///< of the whole workload; empty where it or the machine's rates are not known
  std::string bottleneck;                   ///< then: what bounds it
  /// For people: "model", "weights", "skipped" (tensors, where some are), "KV", "plan", "memory", "time", and what there is to say.
  std::vector<std::pair<std::string, std::string>> screen;
};

/// Everything that decides how an Engine is set up. Sizes in bytes; an empty optional means "the plan decides".
struct EngineOptions {
  std::filesystem::path model;                   ///< Hugging Face checkpoint directory, read in place
  std::string device = "auto";                   ///< auto (cpu) | cpu | cuda[:N] | emulated[:SEED]: the GPU's kernels run on the CPU
  std::string cpu_path = "auto";                 ///< auto | reference | avx2 | avx512: which kernels run
  std::string dtype = "auto";                    ///< auto | bfloat16 | float32: activations and KV
  std::string kv_dtype = "auto";                 ///< auto (as computed) | bfloat16 | float32 | int8: how KV pages are stored
  std::string load_format = "auto";              ///< auto | dummy: random weights from config.json alone
  std::optional<uint64_t> device_memory;         ///< HBM the run may use
  std::optional<uint64_t> host_memory;           ///< RAM for weights, KV and buffers; never exceeded
  std::optional<uint64_t> weight_memory;         ///< part of host_memory for weights; those beyond it stream from storage
  std::optional<int64_t> weight_slots;           ///< through which experts stream; 1: nothing is read while it computes
  std::optional<uint64_t> kv_memory;             ///< part of host_memory for KV pages
  std::filesystem::path swap_folder;             ///< where a file keeps K and V of preempted sequences; empty: they are computed again
  std::optional<uint64_t> swap_space;            ///< bytes of that file, always used; 0: none; empty: where the disk is faster
  std::optional<int64_t> max_model_len;          ///< context limit in tokens, at most the config's
  std::optional<int64_t> max_num_seqs;           ///< sequences in flight
  std::optional<int64_t> max_pass_tokens;        ///< tokens in one pass
  std::optional<int64_t> attention_micro_batch;  ///< b_a, sequences
  std::optional<int64_t> expert_micro_batch;     ///< b_e, tokens
  std::optional<int64_t> cpu_expert_tokens;      ///< with at most so many in a pass, experts not in device memory run on the CPU; GPU runs
  std::optional<double> cpu_attention_share;     ///< omega: of the sequences, whose generated tokens attend on the CPU; GPU runs
  int threads = 0;                               ///< 0: physical cores this process may use
  uint64_t seed = 0;                             ///< for requests without a seed of their own
  bool skip_tokenizer_init = false;              ///< token ids in, token ids out
  std::string parser = "auto";                   ///< auto | none | a parser's name: reasoning and tool calls of conversations
  std::filesystem::path trace_file;              ///< Chrome trace of what computed and what was read when; empty: none
  std::filesystem::path machine_file;            ///< rates of the machine, as `bench machine --json` writes them; empty: its own
  std::optional<uint64_t> measure_from;          ///< weights for which rates are measured where none are kept: half a minute; empty: never
  std::shared_ptr<const PromptCounter> counter;  ///< made from the same options: what it has loaded is not loaded again; may be null
  Workload workload;                             ///< that sizes are chosen for; empty: none is known
  bool use_generation_config = true;             ///< defaults of generation_config.json
  std::function<void(const EngineInfo&)> ready;  ///< called when all is decided, before weights are read; may be empty
  std::function<void(uint64_t bytes, uint64_t all)> loading;  ///< called every ten seconds while weights are read, on any thread; may be empty
};

}  // namespace moegen
