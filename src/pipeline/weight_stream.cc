#include "pipeline/weight_stream.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/checked.h"
#include "base/clock.h"
#include "checkpoint/arrange.h"

namespace moegen {
namespace {

int num_pieces(const WeightUnit& unit) {
  int count = 0;
  for (const WeightUnit::Range& r : unit.ranges) count += static_cast<int>(ceil_div<uint64_t>(r.end - r.begin, kReadPieceBytes));
  return count;
}

std::unique_ptr<AsyncReader> open_with_slots(const WeightStream::OpenReader& open, const MappedMemory& memory, uint64_t slot_bytes) {
  std::vector<std::span<std::byte>> slots;
  for (uint64_t at = 0; at < memory.size(); at += slot_bytes) slots.emplace_back(memory.data() + at, slot_bytes);
  return open(kReadDepth, slots);
}

}  // namespace

WeightStream::WeightStream(const ModelSpec& spec, std::span<const TensorView> views, const Checkpoint& checkpoint, std::span<const WeightUnit> units,
                           const WeightPlan& plan, const OpenReader& open_reader, Trace* trace)
    : spec_(spec),
      views_(views),
      checkpoint_(checkpoint),
      units_(units),
      streamed_(plan.streamed),
      layer_begin_(spec.layers.size() + 1),
      slot_bytes_(plan.slot_bytes),
      memory_(static_cast<size_t>(plan.slots) * plan.slot_bytes, "weight slots"),
      slots_(static_cast<size_t>(plan.slots)),
      wanted_(plan.streamed.size()),
      trace_(trace),
      reader_(checkpoint.files(), open_with_slots(open_reader, memory_, slot_bytes_), kReadDepth),
      reader_name_(reader_.reader().name()) {
  MOEGEN_CHECK(!streamed_.empty() && !slots_.empty());
  for (const int32_t unit : streamed_) {
    const auto layer = static_cast<size_t>(units_[static_cast<size_t>(unit)].layer);
    ++layer_begin_[layer + 1];
    ahead_tokens_.push_back(read_ahead_tokens(spec.layers[layer].mlp));
  }
  for (size_t l = 0; l < spec.layers.size(); ++l) layer_begin_[l + 1] += layer_begin_[l];
  thread_ = std::thread([this] { work(); });
}

WeightStream::~WeightStream() {
  {
    const std::lock_guard lock(mutex_);
    end_ = true;
  }
  to_read_.notify_one();
  thread_.join();
}

void WeightStream::begin_pass(int64_t num_tokens) {
  for (const FileReader& file : checkpoint_.files()) file.check_unchanged();
  const std::lock_guard lock(mutex_);
  if (pass_tokens_ > 0) pass_base_ += static_cast<int64_t>(streamed_.size());
  pass_tokens_ = num_tokens;
  to_read_.notify_one();
}

void WeightStream::routed(size_t layer, const int32_t* expert_begin) {
  const std::lock_guard lock(mutex_);
  for (int64_t p = layer_begin_[layer]; p < layer_begin_[layer + 1]; ++p) {
    const int e = unit_at(p).expert;
    wanted_[static_cast<size_t>(p)] = expert_begin == nullptr || expert_begin[e] < expert_begin[e + 1] ? 1 : 0;
  }
  next_ = std::max(next_, pass_base_ + layer_begin_[layer]);
  known_end_ = pass_base_ + layer_begin_[layer + 1];
  drop_unwanted();
  to_read_.notify_one();
}

// Passes over what was read ahead in vain.
void WeightStream::drop_unwanted() {
  const auto is_unwanted = [this](int64_t p) { return p < known_end_ && (p < pass_base_ || wanted_[static_cast<size_t>(p - pass_base_)] == 0); };
  while (taken_ < begun_ && is_unwanted(slot_of(taken_).position)) ++taken_;
  if (!held_) released_ = taken_;
}

bool WeightStream::is_there() const {
  const std::lock_guard lock(mutex_);
  return front_is_there();
}

const MlpWeights& WeightStream::take(size_t layer, int expert) {
  std::unique_lock lock(mutex_);
  if (!front_is_there()) {
    const Trace::Span span(trace_, "wait for weights", static_cast<int64_t>(layer), expert);
    const auto start = Clock::now();
    waiting_.store(true, std::memory_order_relaxed);
    to_compute_.wait(lock, [&] { return front_is_there(); });
    waiting_.store(false, std::memory_order_relaxed);
    counters_.wait_seconds += Clock::seconds_since(start);
  }
  if (failure_) std::rethrow_exception(failure_);
  last_taken_ = taken_;
  Slot& slot = slot_of(taken_++);
  const WeightUnit& unit = unit_at(slot.position);
  MOEGEN_CHECK(unit.layer == static_cast<int>(layer) && unit.expert == expert);
  held_ = true;
  drop_unwanted();
  return slot.weights;
}

WeightStream::Taken WeightStream::taken() {
  const std::lock_guard lock(mutex_);
  const Slot& slot = slot_of(last_taken_);
  return {streamed_[static_cast<size_t>(slot.position) % streamed_.size()], unit_at(slot.position),
          slot_data(static_cast<int>(&slot - slots_.data()))};
}

void WeightStream::release() {
  const std::lock_guard lock(mutex_);
  held_ = false;
  drop_unwanted();
  to_read_.notify_one();
}

StreamCounters WeightStream::counters() const {
  const std::lock_guard lock(mutex_);
  return counters_;
}

// The reading thread.
void WeightStream::work() {
  try {
    while (feed()) ended(reader_.wait());
  } catch (...) {
    const std::lock_guard lock(mutex_);
    failure_ = std::current_exception();
    to_compute_.notify_one();
  }
}

// Has as many reads under way as there may be; sleeps while there is nothing to read. False: it is time to end.
bool WeightStream::feed() {
  for (;;) {
    while (!reader_.full() && (cursor_.unit != nullptr || next_unit())) reader_.begin(next_piece());
    std::unique_lock lock(mutex_);
    if (end_) return false;
    if (!reader_.idle()) return true;
    to_read_.wait(lock, [this] { return end_ || can_begin(); });
  }
}

// Whether the unit at a position is to be read, as far as it is known; the mutex is held.
bool WeightStream::may_read(int64_t position) const {
  const auto i = static_cast<size_t>(position) % streamed_.size();
  return position < known_end_ ? wanted_[i] != 0 : pass_tokens_ >= ahead_tokens_[i];
}

// Moves `next_` to the next position to read. False where none is known yet, or where its slot is not free.
bool WeightStream::can_begin() {
  while (next_ < known_end_ && !may_read(next_)) ++next_;
  if (!may_read(next_)) return false;
  return begun_ - released_ < static_cast<int64_t>(slots_.size()) && slot_of(begun_).pieces_left == 0;
}

bool WeightStream::next_unit() {
  const std::lock_guard lock(mutex_);
  if (end_ || !can_begin()) return false;
  Slot& slot = slot_of(begun_);
  cursor_ = {&unit_at(next_), 0, 0, static_cast<int>(&slot - slots_.data())};
  slot.begun = Clock::now();
  slot.position = next_++;
  slot.pieces_left = num_pieces(*cursor_.unit);
  ++begun_;
  return true;
}

Piece WeightStream::next_piece() {
  const WeightUnit::Range& range = cursor_.unit->ranges[cursor_.range_idx];
  const uint64_t left = range.end - range.begin - cursor_.offset;
  Piece piece;
  piece.file_idx = range.file_idx;
  piece.offset = range.begin + cursor_.offset;
  piece.to = slot_data(cursor_.slot) + range.at + cursor_.offset;
  piece.needed = static_cast<uint32_t>(std::min<uint64_t>(left, kReadPieceBytes));
  piece.bytes = static_cast<uint32_t>(round_up<uint64_t>(piece.needed, kReadAlignment));
  piece.buffer = cursor_.slot;
  cursor_.offset += piece.needed;
  if (cursor_.offset == range.end - range.begin) {
    cursor_.offset = 0;
    if (++cursor_.range_idx == cursor_.unit->ranges.size()) cursor_.unit = nullptr;
  }
  return piece;
}

void WeightStream::ended(std::span<const int> slots) {
  for (const int slot : slots) {
    std::unique_lock lock(mutex_);
    Slot& s = slots_[static_cast<size_t>(slot)];
    if (s.pieces_left == 1) {
      lock.unlock();
      settle(s);
      lock.lock();
    }
    if (--s.pieces_left == 0) to_compute_.notify_one();
  }
  const std::lock_guard lock(mutex_);
  counters_.bytes_read = reader_.bytes_read();
  counters_.read_seconds = reader_.busy_seconds();
}

// Makes the views of a unit that is all there, moves what its file has at an odd place, and rearranges what it has otherwise.
void WeightStream::settle(Slot& slot) const {
  const WeightUnit& unit = unit_at(slot.position);
  std::byte* data = slot_data(static_cast<int>(&slot - slots_.data()));
  for (auto idx = unit.order.rbegin(); idx != unit.order.rend(); ++idx) {
    const WeightUnit::Tensor& t = unit.tensors[*idx];
    Arrangement op = t.arrangement;
    if (is_in_place(op.form) && t.used_at != t.read_at) std::memmove(data + t.used_at, data + t.read_at, t.bytes);
    if (op.form == Form::rows) continue;
    op.to = data + t.used_at;
    op.from = is_in_place(op.form) ? op.to : data + t.read_at;
    arrange(op, 0, op.rows);
  }
  if (trace_ != nullptr) trace_->add_read(slot.position, unit.layer, unit.expert, unit.resident_bytes, slot.begun, Clock::now());
  for (const WeightUnit::Tensor& t : unit.tensors) {
    TensorView view = views_[t.table_idx];
    view.data = data + t.used_at;
    place(slot.weights, spec_.layers[static_cast<size_t>(unit.layer)].mlp, t.role, t.part, view);
  }
}

}  // namespace moegen
