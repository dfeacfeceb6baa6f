#pragma once

#include <vector>

#include "base/thread_pool.h"
#include "memory/mapped_memory.h"
#include "model/gpu_steps.h"
#include "model/kv_layout.h"
#include "model/pass.h"
#include "plan/plan.h"

namespace moegen {

/// K and V of a pass on a GPU. Pages are in host memory; those that an attention micro-batch sees are staged in device memory, one layer of them, in
/// one of two halves: while attention works in one, a stream of its own fills the other, for the next micro-batch or the next layer. What attention
/// adds goes back by a third stream, whole pages of the layer at a time. Tokens that attend on the CPU (generated ones of sequences that are
/// `on_cpu`) are left out.
class KvStager {
 public:
  /// What is passed must outlive it. `compute`: the stream in which attention runs.
  KvStager(Device& device, const Stream& compute, const ModelSpec& spec, const Plan& plan, const GpuBuffers& buffers, ThreadPool& pool);
  ~KvStager();
  KvStager(const KvStager&) = delete;
  KvStager& operator=(const KvStager&) = delete;

  /// Divides a pass into micro-batches of sequences whose pages fit, wave by wave; rows and tiles go to the device. The pass must stay until the
  /// next.
  void begin_pass(const Pass& pass);
  /// Micro-batches of a wave of a layer, none of linear attention, to be called for in order: `begin` stages the next one, unless that has begun, and
  /// `compute` waits for it; `end`, behind the attention, brings back what it added, and stages what comes next, in whatever layer.
  [[nodiscard]] int64_t micro_batches(size_t layer, int64_t wave) const;
  [[nodiscard]] GpuMicroBatch begin();
  void end();
  void end_pass();
  /// The caller waits until what attention has added so far is in the pages: those of a layer up to the last `end`; between passes all.
  void await_returned();
  [[nodiscard]] std::byte* pages() const { return pages_.data(); }
  /// Of all layers, between passes: nothing that reads or writes it is on its way.
  [[nodiscard]] std::span<std::byte> page(int32_t id);
  /// To the device, since the begin.
  [[nodiscard]] uint64_t staged_bytes() const { return staged_bytes_; }

 private:
  /// Tokens of a sequence in a micro-batch, and its pages.
  struct Part {
    const PassSequence* sequence;
    int32_t first_row, count;
    int64_t position;          // of the first
    int64_t first_page, slot;  // the first that is seen, and where it is staged
    int64_t end_page() const { return (position + count - 1) / kPageTokens + 1; }
  };
  struct MicroBatch {
    int64_t wave;
    size_t first_part, last_part;
    Range rows;
    int64_t first_tile, last_tile;
    int64_t max_count = 1;
    bool reads_own = false;  // pages that an earlier wave of this pass writes
  };
  struct Cut {  // of a pass, for layers that see equally far
    std::vector<Part> parts;
    std::vector<MicroBatch> batches;
    std::vector<GpuRow> rows;
    std::vector<GpuTile> tiles;
  };
  struct Step {
    size_t layer;
    size_t batch;
  };

  void cut(const Pass& pass, size_t reach);
  static void skip_rows(Cut& cut, int64_t count);
  void add_part(Cut& cut, const KvGroup& reach, const PassSequence& sequence, int64_t wave, int64_t begin, int64_t end);
  void add_rows(Cut& cut, const Part& part) const;
  void upload(size_t reach);
  void stage(size_t step);
  [[nodiscard]] std::byte* page(size_t layer, const Part& part, int64_t page_idx) const;
  [[nodiscard]] size_t layer_bytes(size_t layer) const;
  [[nodiscard]] std::byte* half(size_t step) const;
  [[nodiscard]] const Cut& cut_of(size_t layer) const { return cuts_[layer_reach_[layer]]; }

  Device& device_;
  const Stream& compute_;
  const ModelSpec& spec_;
  const KvLayout& kv_;
  const PassSizes& sizes_;
  const DevicePlan& plan_;
  const GpuBuffers& buffers_;
  std::vector<size_t> layer_reach_;
  MappedMemory pages_;
  PinnedBlocks pinned_;
  Stream to_device_, to_host_;
  DeviceBuffer slots_;
  HostBuffer host_rows_, host_tiles_;  // [reaches][T]
  Event uploaded_, staged_[2], attended_[2], returned_[2], all_returned_;
  std::vector<Cut> cuts_;    // by reach
  std::vector<Step> steps_;  // of the pass
  size_t staged_steps_ = 0, done_steps_ = 0;
  uint64_t staged_bytes_ = 0;
  std::vector<Copy> copies_;  // of the pages of a step
};

}  // namespace moegen
