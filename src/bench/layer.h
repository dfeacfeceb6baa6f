#pragma once

#include <vector>

#include "bench/setup.h"
#include "model/steps.h"

namespace moegen {

/// One layer's buffers and KV pages, and the context that the steps of src/model want: they are measured as the engine calls them.
class BenchLayer {
 public:
  BenchLayer(ModelSpec spec, const PassSizes& sizes, int64_t kv_pages, DType kv_dtype, BenchSetup& setup);

  [[nodiscard]] const StepContext& context() const { return context_; }
  [[nodiscard]] const ModelSpec& spec() const { return spec_; }
  [[nodiscard]] const Buffers& buffers() const { return buffers_; }
  [[nodiscard]] const KvLayout& kv() const { return kv_; }
  [[nodiscard]] const MappedMemory& kv_pages() const { return kv_memory_; }

 private:
  ModelSpec spec_;
  PassSizes sizes_;
  KvLayout kv_;
  MappedMemory kv_memory_;
  MappedMemory embedding_;
  Arena arena_;
  Buffers buffers_;
  ModelWeights weights_;
  std::vector<std::vector<float>> frequencies_;
  StepContext context_;
};

/// A model of one layer: attention of these heads, a dense MLP of this width.
[[nodiscard]] ModelSpec bench_spec(int hidden, int width, int heads, int kv_heads, int head_dim);

}  // namespace moegen
