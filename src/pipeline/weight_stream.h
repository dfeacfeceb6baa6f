#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/trace.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/weight_units.h"
#include "memory/mapped_memory.h"
#include "model/weights.h"
#include "plan/weight_plan.h"
#include "storage/piece_reader.h"

namespace moegen {

/// What streaming did since its begin.
struct StreamCounters {
  uint64_t bytes_read = 0;
  double read_seconds = 0;  ///< in which at least one read was under way; the storage was idle in the others
  double wait_seconds = 0;  ///< in which the cores waited for weights
};

/// The weights that do not stay in memory: a ring of slots, filled in a fixed cyclic order, across layers and passes, by a thread of
/// its own, while what is there already is computed with.
///
/// Streamed units have positions: the order of computation, over and over again, pass after pass. The thread goes over the positions
/// and reads a unit into the next slot as soon as that is free. Behind the layer whose routing is known it goes on only where a pass
/// of as many tokens leaves hardly an expert without one (`read_ahead_tokens`); else it waits for the routing. Units without tokens are not
/// read; one that was read ahead in vain is passed over. So a wrong guess costs time and nothing else.
///
/// All members are for the thread that runs passes. It and the reading thread share what `mutex_` guards, and the slots: a slot is the
/// reading thread's from the begin of its reading to `pieces_left == 0`, then the other's until it is released.
class WeightStream {
 public:
  using OpenReader = std::function<std::unique_ptr<AsyncReader>(unsigned depth, std::span<const std::span<std::byte>> buffers)>;

  /// `views`: beside the table of the units; of what streams all but the data. What is passed must outlive it, but for the plan. Reading begins with
  /// the first pass. Throws Error(out_of_memory | io).
  WeightStream(const ModelSpec& spec, std::span<const TensorView> views, const Checkpoint& checkpoint, std::span<const WeightUnit> units,
               const WeightPlan& plan, const OpenReader& open_reader = open_async_reader, Trace* trace = nullptr);
  ~WeightStream();
  WeightStream(const WeightStream&) = delete;
  WeightStream& operator=(const WeightStream&) = delete;

  /// A pass of `num_tokens` begins. Throws Error(io) where a file of the checkpoint has changed since it was opened.
  void begin_pass(int64_t num_tokens);
  /// The experts of a layer that have tokens: expert e the rows [expert_begin[e], expert_begin[e + 1]). Null for a layer without
  /// experts. Called once a pass for every layer, in order.
  void routed(size_t layer, const int32_t* expert_begin);
  /// Whether take() would not wait.
  [[nodiscard]] bool is_there() const;
  /// A unit of that layer that has tokens, and that streams; each in order. `expert` -1: a layer without experts. Waits until it is
  /// there. Valid until release(): while something is taken take() may only be called where is_there(). Throws what went wrong with reading, from
  /// then on always.
  const MlpWeights& take(size_t layer, int expert);
  /// Of all that was taken.
  void release();
  /// The unit that was taken last, and its slot.
  struct Taken {
    int32_t number;
    const WeightUnit& unit;
    const std::byte* data;
  };
  [[nodiscard]] Taken taken();
  /// All slots.
  [[nodiscard]] std::span<std::byte> memory() { return {memory_.data(), memory_.size()}; }
  /// How many may be taken before they are released without keeping the ring from being filled: a quarter of it, or one.
  [[nodiscard]] int units_at_once() const { return std::max(1, static_cast<int>(slots_.size()) / 4); }

  [[nodiscard]] StreamCounters counters() const;
  /// Whether take() waits just now. Any thread.
  [[nodiscard]] bool waiting() const noexcept { return waiting_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::string_view reader_name() const { return reader_name_; }

 private:
  struct Slot {
    int64_t position = -1;
    int pieces_left = 0;
    Clock::time_point begun;
    MlpWeights weights;
  };
  struct Cursor {  // of the unit that is being read
    const WeightUnit* unit = nullptr;
    size_t range_idx = 0;
    uint64_t offset = 0;
    int slot = 0;
  };

  void work();
  bool feed();
  bool next_unit();
  [[nodiscard]] bool may_read(int64_t position) const;
  bool can_begin();
  Piece next_piece();
  void ended(std::span<const int> slots);
  void settle(Slot& slot) const;
  void drop_unwanted();

  [[nodiscard]] const WeightUnit& unit_at(int64_t position) const {
    return units_[static_cast<size_t>(streamed_[static_cast<size_t>(position) % streamed_.size()])];
  }
  [[nodiscard]] std::byte* slot_data(int slot) const { return memory_.data() + static_cast<size_t>(slot) * slot_bytes_; }
  Slot& slot_of(int64_t count) { return slots_[static_cast<size_t>(count) % slots_.size()]; }
  [[nodiscard]] bool front_is_there() const {
    return failure_ || (taken_ < begun_ && slots_[static_cast<size_t>(taken_) % slots_.size()].pieces_left == 0);
  }

  const ModelSpec& spec_;
  std::span<const TensorView> views_;
  const Checkpoint& checkpoint_;
  std::span<const WeightUnit> units_;
  std::vector<int32_t> streamed_;      // units, by position modulo their number
  std::vector<int64_t> layer_begin_;   // [layers + 1] first position of a layer, in the first cycle
  std::vector<int64_t> ahead_tokens_;  // beside streamed_: tokens from which its layer is read ahead
  uint64_t slot_bytes_;
  MappedMemory memory_;

  mutable std::mutex mutex_;
  std::condition_variable to_read_, to_compute_;
  std::vector<Slot> slots_;
  std::vector<uint8_t> wanted_;  // beside streamed_: of the positions below known_end_, whether they have tokens
  int64_t pass_base_ = 0;        // position at which the pass began
  int64_t known_end_ = 0;        // positions below are routed
  int64_t pass_tokens_ = 0;
  int64_t next_ = 0;        // the position to look at next
  int64_t begun_ = 0;       // units whose reading has begun, the n-th in slot n % slots
  int64_t taken_ = 0;       // of these, those that were taken, or passed over
  int64_t released_ = 0;    // of these, those that are done with
  int64_t last_taken_ = 0;  // of the units begun
  bool held_ = false;       // something is taken and not released
  bool end_ = false;
  std::exception_ptr failure_;
  StreamCounters counters_;
  std::atomic<bool> waiting_{false};

  Trace* trace_;
  Cursor cursor_;  // the reading thread's own
  PieceReader reader_;
  std::string reader_name_;
  std::thread thread_;
};

}  // namespace moegen
