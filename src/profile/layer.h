#pragma once

#include <vector>

#include "model/steps.h"
#include "plan/machine.h"
#include "profile/workbench.h"

namespace moegen {

/// One layer's buffers and KV pages, and the context that the steps of src/model want: they are measured as the engine calls them.
/// Embedding and KV pages lie in the workbench's memory. `normed`, `q` and `hidden` are full of numbers.
class BenchLayer {
 public:
  /// `weights` of the layer may be views of that memory too; without them some steps cannot run.
  /// Throws Error(invalid_argument) where the memory does not hold two KV pages.
  BenchLayer(ModelSpec spec, const PassSizes& sizes, DType kv_dtype, const Workbench& bench, ModelWeights weights = {});
  BenchLayer(const BenchLayer&) = delete;  // the context points into it
  BenchLayer& operator=(const BenchLayer&) = delete;

  [[nodiscard]] const StepContext& context() const { return context_; }
  [[nodiscard]] const ModelSpec& spec() const { return spec_; }
  [[nodiscard]] const Buffers& buffers() const { return buffers_; }
  [[nodiscard]] const KvLayout& kv() const { return kv_; }
  [[nodiscard]] int32_t kv_pages() const { return kv_pages_; }

 private:
  ModelSpec spec_;
  PassSizes sizes_;
  KvLayout kv_;
  int32_t kv_pages_;
  Arena arena_;
  Buffers buffers_;
  ModelWeights weights_;
  std::vector<std::vector<float>> frequencies_;
  StepContext context_;
};

/// A model of one layer: attention of these heads, a dense MLP of this width.
[[nodiscard]] ModelSpec bench_spec(int64_t hidden, int64_t width, const AttentionShape& shape);
/// Sizes of a pass of `tokens` tokens, each a sequence of its own.
[[nodiscard]] PassSizes bench_sizes(int64_t tokens, const Workbench& bench);
/// Bytes that weights [rows, cols] take there, scales included; a multiple of 64.
[[nodiscard]] size_t view_bytes(const Workbench& bench, int64_t rows, int64_t cols);
/// Weights [rows, cols] at this offset of the workbench's memory. Throws Error(invalid_argument) where it does not hold them.
[[nodiscard]] TensorView view_at(const Workbench& bench, size_t offset, int64_t rows, int64_t cols);

}  // namespace moegen
