#pragma once

#include <vector>

#include "memory/arena.h"
#include "memory/mapped_memory.h"
#include "model/gpu_steps.h"
#include "model/steps.h"
#include "pipeline/kv_stager.h"
#include "plan/plan.h"

namespace moegen {

/// What the CPU does of a pass on a GPU: experts, where their weights lie, attention of generated tokens, where their K and V lie, and all linear
/// attention, where its states lie, which are too large to cross the link. It runs the steps of model/steps.h over rows that the device hands over,
/// in host memory of its own, while the device goes on with the rest. `take_*` puts the handing over behind what is in the stream that computes;
/// `give_*` waits for it, computes, and hands results back: what comes into that stream later sees them.
class CpuShare {
 public:
  /// `host`: the weights in host memory; `kv`: whose pages are attended to. What is passed must outlive it. Throws Error(out_of_memory).
  CpuShare(const GpuContext& gpu, const ModelWeights& host, const Kernels& kernels, ThreadPool& pool, const Plan& plan, KvStager& kv);
  ~CpuShare();
  CpuShare(const CpuShare&) = delete;
  CpuShare& operator=(const CpuShare&) = delete;

  /// Finds the tokens that attend here (cpu_tokens), and lays them out. The pass must stay until the next.
  void begin_pass(const Pass& pass);
  /// PassRunner's.
  [[nodiscard]] std::span<std::byte> state(int32_t number);

  /// Rows of a wave of a layer, behind gpu_project_qkv; `give` is for behind all of the device's attention of the wave.
  /// @{
  void take_attention(size_t layer, Range wave);
  void give_attention(size_t layer, Range wave);
  /// @}

  /// Of a layer behind its router: experts of which on_cpu[e] is set, with rows [begin[e], begin[e + 1]) of those sorted by expert.
  void take_experts(size_t layer, const int32_t* begin, std::span<const uint8_t> on_cpu, int64_t num_tokens);
  void give_experts();

 private:
  /// Tokens of a wave that attend together.
  struct Chunk {
    int64_t wave_begin;
    int64_t first = 0, rows = 0;               // of all chunks' rows
    std::vector<PassSequence> sequences = {};  // in rows of the chunk
    bool waits = false;                        // for keys that the device computes in this pass
  };
  void add_tokens(std::vector<Chunk>& chunks, int64_t most_rows, const PassSequence& sequence, int64_t begin, int64_t end) const;
  void upload_rows();
  void hand_over(const Chunk& chunk, size_t layer, Range wave);
  void attend_chunk(const Chunk& chunk, size_t layer, Range wave);
  void claim_pages(const PassSequence& sequence, size_t layer);
  void add_linear_chunks(const Pass& pass);
  [[nodiscard]] size_t first_linear(Range wave) const;
  [[nodiscard]] int64_t linear_row(size_t chunk) const;
  void take_linear(size_t layer, Range wave);
  void give_linear(size_t layer, Range wave);
  void fetch_linear(size_t chunk, size_t layer, Range wave);
  void run_linear(size_t chunk, size_t layer, Range wave);
  void fetch(void* to, const void* from, size_t bytes);
  void await_rows();

  const GpuContext& gpu_;
  KvStager& pages_;
  PassSizes sizes_;
  Arena arena_;
  Buffers buffers_;
  PinnedBlocks pinned_;
  MappedMemory states_;
  std::vector<std::vector<float>> frequencies_;
  StepContext context_;
  Stream exchange_;             // rows there and back
  Event ready_, there_, back_;  // to be handed over; with the host; with the device again
  Event linear_there_[2];       // of the halves
  HostBuffer host_rows_;        // [T]
  Event uploaded_;
  std::vector<Region> fetched_;       // by what is on its way to the host
  std::vector<int32_t> rows_;         // of their waves, of all tokens that attend here
  std::vector<Chunk> chunks_;         // by wave
  std::vector<Chunk> linear_chunks_;  // likewise, of all tokens; one in each half of the buffers, in turn
  const Chunk* laid_out_ = nullptr;   // in the buffers
  std::vector<int32_t> no_tokens_;    // as many as a chunk has rows: steps behind the embedding only count them
  std::vector<MlpRows> parts_;        // experts taken
  std::vector<int64_t> first_;        // beside them: of their rows among all
};

}  // namespace moegen
