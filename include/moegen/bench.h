#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "moegen/options.h"

namespace moegen {

/// What every measurement asks for. A rate is the median of its samples, with the lowest and the highest beside it.
struct BenchOptions {
  std::string cpu_path = "auto";  ///< kernels, as in EngineOptions
  int threads = 0;                ///< 0: physical cores this process may use
  int samples = 5;                ///< of every rate
  uint64_t memory = 0;            ///< bytes that are gone through, so that caches stay cold; 0: 4 times the last cache, 512 MiB at least
  bool json = false;              ///< one JSON object in place of a table
};

/// samples: of each figure, at least.
struct MachineBench : BenchOptions {
  MachineBench() { samples = 3; }

  std::filesystem::path directory = ".";  ///< a model's: its shapes and dtype; and of the file system that is read
  uint64_t file_bytes = 512 << 20;        ///< of a temporary file to read, where the shards there have less
  std::string dtype = "auto";             ///< auto (as the model) | bfloat16 | float32: activations
  std::string kv_dtype = "auto";          ///< auto (as dtype) | int8
  double seconds = 18;                    ///< of measuring
  std::string device = "auto";            ///< as EngineOptions: a GPU is measured too
  std::filesystem::path cache;            ///< folder in which profiles are kept; empty: $XDG_CACHE_HOME/moegen, or ~/.cache/moegen
  bool refresh = false;                   ///< measure, whatever is kept there
};

struct GemmBench : BenchOptions {
  std::vector<std::string> shapes;  ///< names of models, or HIDDENxWIDTH; empty: all that have a name
  std::vector<int64_t> tokens;      ///< per expert; empty: 1, 2, 4 .. 1024
  std::string dtype = "bfloat16";   ///< bfloat16 | float32: weights and activations
  std::string weights = "auto";     ///< auto (as dtype) | fp8: e4m3 in blocks
};

struct AttentionBench : BenchOptions {
  std::vector<std::string> heads;  ///< QUERY:KV; empty: 32:4, 32:8, 16:16
  std::vector<int64_t> contexts;   ///< of decode; empty: 128, 512, 2048, 8192
  std::vector<int64_t> prompts;    ///< of prefill; empty: 512, 1024, 2048, 4096
  int64_t head_dim = 128;
  int64_t window = 0;              ///< keys that a query sees; 0: all
  std::string latent;              ///< latent attention: RANK:PLAIN:ROPE:VALUE widths, one KV head instead of head_dim; empty: not
  std::string dtype = "bfloat16";  ///< bfloat16 | float32: queries, keys and values
  std::string kv_dtype = "auto";   ///< auto (as dtype) | int8
};

struct CopyBench : BenchOptions {
  std::string direction = "h2h";  ///< h2h: within host memory; to and from a GPU: h2d, d2h, both
  std::string device = "cuda";    ///< as EngineOptions, of h2d, d2h and both
};

struct ThroughputBench {
  EngineOptions engine;
  std::vector<int64_t> sequences = {64, 256, 1024};  ///< requests of a run
  int64_t prompt = 128;                              ///< tokens of a prompt
  int64_t generate = 64;                             ///< tokens of an answer, 2 at least
  bool ragged = false;                               ///< lengths of prompts and answers spread evenly from half to one and a half times these
  int samples = 1;                                   ///< runs of each kind
  uint64_t memory = 0;                               ///< that DRAM's roof is measured with, as in BenchOptions
  bool json = false;
};

/// The commands `moegen bench ...`: measure, and write a table or a JSON object to `out`, lines as they are ready. All throw Error.
/// @{
/// Measures, or takes the profile that is kept of this machine, and says on stderr or in the table which.
void bench_machine(const MachineBench& options, std::ostream& out);
void bench_gemm(const GemmBench& options, std::ostream& out);
void bench_attention(const AttentionBench& options, std::ostream& out);
void bench_copy(const CopyBench& options, std::ostream& out);
void bench_throughput(const ThroughputBench& options, std::ostream& out);
/// @}

}  // namespace moegen
