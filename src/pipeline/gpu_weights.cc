#include "pipeline/gpu_weights.h"

#include <algorithm>

#include "base/check.h"
#include "base/checked.h"

namespace moegen {
namespace {

constexpr uint64_t kAlignment = 256;
constexpr uint64_t kChunkBytes = 4 << 20;  // of a copy: what else has to go across may come in between

uint64_t bytes_of(const TensorView& view) { return moegen::bytes_of(view.dtype, static_cast<uint64_t>(view.rows * view.cols)); }
uint64_t f8_scale_bytes(const TensorView& view) {
  return view.dtype == DType::f8_e4m3 ? static_cast<uint64_t>(ceil_div(view.rows, view.block_rows) * ceil_div(view.cols, view.group)) * sizeof(float)
                                      : 0;
}
uint64_t used_bytes(const WeightUnit& unit) {
  uint64_t sum = 0;
  for (const WeightUnit::Tensor& t : unit.tensors) sum += t.used_bytes;
  return sum;
}
bool stays_on_host(const TensorSpec& t, bool tied) { return t.role == Role::embedding && !tied; }

}  // namespace

std::vector<WeightUnit> GpuWeights::device_units(std::vector<WeightUnit> units) {
  for (WeightUnit& unit : units) {
    unit.slot_bytes = 0;
    for (WeightUnit::Tensor& t : unit.tensors) {
      t.used_at = unit.slot_bytes;
      unit.slot_bytes += round_up(t.used_bytes, kAlignment);
    }
    unit.resident_bytes = unit.slot_bytes;
  }
  return units;
}

uint64_t GpuWeights::bytes_needed(std::span<const TensorSpec> table, std::span<const TensorView> views, bool tied) {
  uint64_t sum = 0;
  for (size_t i = 0; i < table.size(); ++i) {
    if (!stays_on_host(table[i], tied)) sum += round_up(bytes_of(views[i]), kAlignment) + round_up(f8_scale_bytes(views[i]), kAlignment);
  }
  return sum;
}

GpuWeights::GpuWeights(Device& device, const Stream& compute, const ModelSpec& spec, std::span<const TensorSpec> table,
                       std::span<const TensorView> host, std::span<const WeightUnit> units, const Plan& plan)
    : device_(device),
      compute_(compute),
      spec_(spec),
      table_(table),
      host_(host),
      units_(units),
      stream_(device.new_stream()),
      resident_there_(device.new_event()),
      resident_bytes_(plan.device->weights.resident_bytes),
      resident_(device.new_buffer(resident_bytes_)),
      streamed_(plan.device->weights.streamed),
      layer_begin_(spec.layers.size() + 1),
      wanted_(plan.device->weights.streamed.size()),
      slots_(static_cast<size_t>(plan.device->weights.slots)),
      slot_bytes_(plan.device->weights.slot_bytes) {
  for (const int32_t unit : streamed_) {
    const auto layer = static_cast<size_t>(units_[static_cast<size_t>(unit)].layer);
    ++layer_begin_[layer + 1];
    ahead_tokens_.push_back(read_ahead_tokens(spec.layers[layer].mlp));
  }
  for (size_t l = 0; l < spec.layers.size(); ++l) layer_begin_[l + 1] += layer_begin_[l];
  for (Slot& slot : slots_) {
    slot.filled = device.new_event();
    slot.used = device.new_event();
  }
  if (!slots_.empty()) ring_ = device.new_buffer(slots_.size() * slot_bytes_);
  if (plan.device->stored_slot_bytes > 0) stored_memory_ = device.new_buffer(plan.device->stored_slot_bytes);
  stored_.filled = device.new_event();
  stored_.used = device.new_event();
  place_resident(units, plan);
}

GpuWeights::~GpuWeights() {
  device_.settle(stream_);
  device_.settle(compute_);
}

void GpuWeights::copy(void* to, const void* from, uint64_t bytes) {
  for (uint64_t at = 0; at < bytes; at += kChunkBytes) {
    device_.copy_to_device(stream_, static_cast<std::byte*>(to) + at, static_cast<const std::byte*>(from) + at, std::min(kChunkBytes, bytes - at));
  }
}

void GpuWeights::place_resident(std::span<const WeightUnit> units, const Plan& plan) {
  std::vector<bool> streams(table_.size());
  for (const std::vector<int32_t>* streamed : {&plan.device->weights.streamed, &plan.weights.streamed}) {
    for (const int32_t u : *streamed) {
      for (const WeightUnit::Tensor& t : units[static_cast<size_t>(u)].tensors) streams[t.table_idx] = true;
    }
  }
  uint64_t used = 0;
  const auto put = [&](const void* from, uint64_t bytes) -> const void* {
    MOEGEN_CHECK(used + bytes <= resident_bytes_);
    std::byte* to = static_cast<std::byte*>(resident_.handle()) + used;
    copy(to, from, bytes);
    used += round_up(bytes, kAlignment);
    return to;
  };
  for (size_t i = 0; i < table_.size(); ++i) {
    TensorView& view = views_.emplace_back(host_[i]);
    if (stays_on_host(table_[i], spec_.tied_embeddings)) continue;
    view.data = streams[i] ? nullptr : put(host_[i].data, bytes_of(host_[i]));
    if (const uint64_t bytes = f8_scale_bytes(host_[i]); bytes > 0) view.scales = put(host_[i].scales, bytes);
  }
  weights_ = assign_weights(spec_, table_, views_);
  for (size_t i = 0; i < table_.size(); ++i) {
    if (table_[i].role == Role::embedding) weights_.embedding = host_[i];
  }
  device_.record(resident_there_, stream_);
  device_.synchronize(resident_there_);
}

void GpuWeights::begin_pass(int64_t num_tokens) {
  if (streamed_.empty()) return;
  if (pass_tokens_ > 0) pass_base_ += static_cast<int64_t>(streamed_.size());
  pass_tokens_ = num_tokens;
  pump();
}

void GpuWeights::routed(size_t layer, std::span<const uint8_t> wanted) {
  if (streamed_.empty()) return;
  for (int64_t p = layer_begin_[layer]; p < layer_begin_[layer + 1]; ++p) {
    wanted_[index(p)] = wanted.empty() ? 1 : wanted[static_cast<size_t>(unit_at(p).expert)];
  }
  next_ = std::max(next_, pass_base_ + layer_begin_[layer]);
  known_end_ = pass_base_ + layer_begin_[layer + 1];
  drop_unwanted();
  pump();
}

// Passes over what was copied ahead in vain.
void GpuWeights::drop_unwanted() {
  const auto is_unwanted = [this](int64_t p) { return p < known_end_ && (p < pass_base_ || wanted_[index(p)] == 0); };
  while (taken_ < begun_ && is_unwanted(slot_of(taken_).position)) ++taken_;
  released_ = taken_;
}

bool GpuWeights::may_fill(int64_t position) const {
  if (position < known_end_) return true;
  return pass_tokens_ >= ahead_tokens_[index(position)];
}

void GpuWeights::pump() {
  while (begun_ - released_ < static_cast<int64_t>(slots_.size()) && may_fill(next_)) {
    const int64_t position = next_++;
    if (position < known_end_ && wanted_[index(position)] == 0) continue;
    fill(slot_of(begun_), position);
    ++begun_;
  }
}

// A tensor of a unit to its place in a slot.
void GpuWeights::copy_tensor(const WeightUnit& unit, const WeightUnit::Tensor& t, std::byte* slot, const void* from, MlpWeights& weights) {
  TensorView view = views_[t.table_idx];
  view.data = slot + t.used_at;
  copy(slot + t.used_at, from, t.used_bytes);
  place(weights, spec_.layers[static_cast<size_t>(unit.layer)].mlp, t.role, t.part, view);
}

const MlpWeights& GpuWeights::bring(int32_t number, const WeightUnit& there, const std::byte* data) {
  const WeightUnit& unit = units_[static_cast<size_t>(number)];
  auto* to = static_cast<std::byte*>(stored_memory_.handle());
  stored_.weights = {};
  device_.wait(stream_, stored_.used);
  for (size_t i = 0; i < unit.tensors.size(); ++i) copy_tensor(unit, unit.tensors[i], to, data + there.tensors[i].used_at, stored_.weights);
  device_.record(stored_.filled, stream_);
  device_.wait(compute_, stored_.filled);
  device_.synchronize(stored_.filled);
  taken_bytes_ += used_bytes(unit);
  return stored_.weights;
}

void GpuWeights::fill(Slot& slot, int64_t position) {
  const WeightUnit& unit = unit_at(position);
  std::byte* to = static_cast<std::byte*>(ring_.handle()) + static_cast<size_t>(&slot - slots_.data()) * slot_bytes_;
  slot.position = position;
  slot.weights = {};
  device_.wait(stream_, slot.used);
  for (const WeightUnit::Tensor& t : unit.tensors) copy_tensor(unit, t, to, host_[t.table_idx].data, slot.weights);
  device_.record(slot.filled, stream_);
}

const MlpWeights& GpuWeights::take(size_t layer, int expert) {
  MOEGEN_CHECK(taken_ < begun_);
  Slot& slot = slot_of(taken_);
  MOEGEN_CHECK(unit_at(slot.position).layer == static_cast<int>(layer) && unit_at(slot.position).expert == expert);
  device_.wait(compute_, slot.filled);
  taken_bytes_ += used_bytes(unit_at(slot.position));
  return slot.weights;
}

void GpuWeights::release() {
  device_.record(slot_of(taken_++).used, compute_);
  drop_unwanted();
  pump();
}

}  // namespace moegen
