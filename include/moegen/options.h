#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
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
};

/// Everything that decides how an Engine is set up. Sizes in bytes; an empty optional means "the plan decides".
struct EngineOptions {
  std::filesystem::path model;                   ///< Hugging Face checkpoint directory, read in place
  std::string device = "auto";                   ///< auto | cpu | cuda[:N]
  std::string cpu_path = "auto";                 ///< auto | reference | avx2 | avx512: which kernels run
  std::string dtype = "auto";                    ///< auto | bfloat16 | float32: activations and KV
  std::string kv_dtype = "auto";                 ///< auto (as computed) | bfloat16 | float32 | int8: how KV pages are stored
  std::string load_format = "auto";              ///< auto | dummy: random weights from config.json alone
  std::optional<uint64_t> device_memory;         ///< HBM the run may use
  std::optional<uint64_t> host_memory;           ///< RAM for weights, KV and buffers; never exceeded
  std::optional<uint64_t> weight_memory;         ///< part of host_memory for weights; those beyond it stream from storage
  std::optional<int64_t> weight_slots;           ///< through which experts stream; 1: nothing is read while it computes
  std::optional<uint64_t> kv_memory;             ///< part of host_memory for KV pages
  std::optional<int64_t> max_model_len;          ///< context limit in tokens, at most the config's
  std::optional<int64_t> max_num_seqs;           ///< sequences in flight
  std::optional<int64_t> max_pass_tokens;        ///< tokens in one pass
  std::optional<int64_t> attention_micro_batch;  ///< b_a, sequences
  std::optional<int64_t> expert_micro_batch;     ///< b_e, tokens
  std::optional<double> cpu_attention_share;     ///< omega: of the sequences whose KV is in host memory; machines with a GPU
  int threads = 0;                               ///< 0: physical cores this process may use
  uint64_t seed = 0;                             ///< for requests without a seed of their own
  bool skip_tokenizer_init = false;              ///< token ids in, token ids out
  std::string parser = "auto";                   ///< auto | none | a parser's name: reasoning and tool calls of conversations
  std::filesystem::path trace_file;              ///< Chrome trace of what computed and what was read when; empty: none
  std::filesystem::path machine_file;            ///< rates of the machine, as `bench machine --json` writes them; empty: its own
  std::optional<uint64_t> measure_from;          ///< weights for which rates are measured where none are kept: half a minute; empty: never
  Workload workload;                             ///< that sizes are chosen for; empty: none is known
  bool use_generation_config = true;             ///< defaults of generation_config.json
};

}  // namespace moegen
