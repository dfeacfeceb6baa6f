#pragma once

#include <span>
#include <vector>

#include "checkpoint/weight_units.h"
#include "device/device.h"
#include "model/kv_layout.h"
#include "model/weights.h"
#include "plan/plan.h"

namespace moegen {

/// The weights of a model as a GPU has them: those that stay in device memory, and a ring of slots through which experts come from host memory, in a
/// fixed cyclic order across layers and passes, by a stream of its own. As WeightStream: which experts of a layer have tokens is known behind its
/// router; beyond it the stream goes on only where a pass of as many tokens leaves hardly an expert without one. Nothing here waits for the
/// device: a slot is filled behind an event of the computation that used it, and used behind an event of the copy.
class GpuWeights {
 public:
  /// Units as a slot of device memory has them: tensors one behind the other. Of units that weight_units() made.
  static std::vector<WeightUnit> device_units(std::vector<WeightUnit> units);
  /// Of all tensors in device memory; the embedding stays with the host unless it is the head.
  static uint64_t bytes_needed(std::span<const TensorSpec> table, std::span<const TensorView> views, bool tied);

  /// `host`: the weights, beside `table`, in host memory, which must stay and should be pinned. What is passed must outlive it, but for the plan.
  GpuWeights(Device& device, const Stream& compute, const ModelSpec& spec, std::span<const TensorSpec> table, std::span<const TensorView> host,
             std::span<const WeightUnit> units, const Plan& plan);
  ~GpuWeights();
  GpuWeights(const GpuWeights&) = delete;
  GpuWeights& operator=(const GpuWeights&) = delete;

  /// What stays, in device memory.
  [[nodiscard]] Region resident() const { return {resident_.handle(), resident_bytes_}; }
  /// Without those that stream. The embedding is the host's.
  [[nodiscard]] const ModelWeights& weights() const { return weights_; }

  void begin_pass(int64_t num_tokens);
  /// As WeightStream::routed: the layer's router is done, and of its experts those that stream and of which wanted[e] is set are to be copied. Of a
  /// dense layer empty.
  void routed(size_t layer, std::span<const uint8_t> wanted);
  /// Of the layer's experts that stream and are wanted, in order, the next `begun()` are on their way already.
  [[nodiscard]] int64_t begun() const { return begun_ - taken_; }
  /// The next of them; what is computed from now on waits for it. Its use ends with `release`, behind which its slot is filled anew.
  const MlpWeights& take(size_t layer, int expert);
  void release();

  /// Unit `number`, whose tensors lie behind `data` as `there` says: to a slot of its own, for use as by `take`, up to `release_brought`. The caller
  /// waits until it is there.
  const MlpWeights& bring(int32_t number, const WeightUnit& there, const std::byte* data);
  void release_brought() { device_.record(stored_.used, compute_); }

  [[nodiscard]] uint64_t taken_bytes() const { return taken_bytes_; }

 private:
  struct Slot {
    int64_t position = -1;
    MlpWeights weights;
    Event filled, used;
  };
  void place_resident(std::span<const WeightUnit> units, const Plan& plan);
  void copy_tensor(const WeightUnit& unit, const WeightUnit::Tensor& t, std::byte* slot, const void* from, MlpWeights& weights);
  void pump();
  void fill(Slot& slot, int64_t position);
  void drop_unwanted();
  void copy(void* to, const void* from, uint64_t bytes);
  [[nodiscard]] bool may_fill(int64_t position) const;
  [[nodiscard]] size_t index(int64_t position) const { return static_cast<size_t>(position) % streamed_.size(); }
  [[nodiscard]] const WeightUnit& unit_at(int64_t position) const { return units_[static_cast<size_t>(streamed_[index(position)])]; }
  Slot& slot_of(int64_t count) { return slots_[static_cast<size_t>(count) % slots_.size()]; }

  Device& device_;
  const Stream& compute_;
  const ModelSpec& spec_;
  std::span<const TensorSpec> table_;
  std::span<const TensorView> host_;
  std::span<const WeightUnit> units_;
  Stream stream_;
  Event resident_there_;
  size_t resident_bytes_;
  DeviceBuffer resident_, ring_, stored_memory_;
  Slot stored_;                    // what `bring` brings
  std::vector<TensorView> views_;  // beside table_, of device memory; null for what streams
  ModelWeights weights_;
  std::vector<int32_t> streamed_;      // units, by position modulo their number
  std::vector<int64_t> layer_begin_;   // [layers + 1] first position of a layer, in the first cycle
  std::vector<int64_t> ahead_tokens_;  // beside streamed_
  std::vector<uint8_t> wanted_;        // beside streamed_: of the positions below known_end_, whether they have tokens
  std::vector<Slot> slots_;
  uint64_t slot_bytes_ = 0;
  int64_t pass_base_ = 0, known_end_ = 0, pass_tokens_ = 0;
  int64_t next_ = 0;                              // the position to look at next
  int64_t begun_ = 0, taken_ = 0, released_ = 0;  // units, the n-th in slot n % slots
  uint64_t taken_bytes_ = 0;
};

}  // namespace moegen
