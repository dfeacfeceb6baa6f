#include "checkpoint/weight_units.h"

#include <algorithm>

#include "base/checked.h"
#include "checkpoint/weight_store.h"

namespace moegen {
namespace {

constexpr uint64_t kElementAlignment = 4;  // of any dtype

bool is_mlp(Role r) {
  return r == Role::gate || r == Role::up || r == Role::down || r == Role::gate_up || r == Role::gate_up_bias || r == Role::gate_bias ||
         r == Role::down_bias;
}

// The ranges of a unit and where its tensors lie. Tensors whose aligned surroundings touch share a range.
void lay_out(WeightUnit& unit, const Binding& binding) {
  std::vector<WeightUnit::Tensor*> by_offset;
  for (WeightUnit::Tensor& t : unit.tensors) by_offset.push_back(&t);
  const auto info = [&](const WeightUnit::Tensor* t) { return &*binding.tensors[t->table_idx]; };
  std::sort(by_offset.begin(), by_offset.end(), [&](const auto* a, const auto* b) {
    return std::pair(info(a)->file_idx, info(a)->offset) < std::pair(info(b)->file_idx, info(b)->offset);
  });
  for (const WeightUnit::Tensor* t : by_offset) unit.order.push_back(static_cast<size_t>(t - unit.tensors.data()));
  bool moved = false;
  for (WeightUnit::Tensor* t : by_offset) {
    const TensorInfo& tensor = *info(t);
    const uint64_t begin = tensor.offset / kReadAlignment * kReadAlignment;
    if (unit.ranges.empty() || unit.ranges.back().file_idx != tensor.file_idx || begin > round_up(unit.ranges.back().end, kReadAlignment)) {
      unit.ranges.push_back({tensor.file_idx, begin, begin, unit.slot_bytes});
    }
    WeightUnit::Range& range = unit.ranges.back();
    t->read_at = range.at + (tensor.offset - range.begin);
    t->used_at = t->read_at;
    moved = moved || (is_in_place(t->arrangement.form) && t->read_at % std::max<size_t>(bytes_of(tensor.dtype), 1) != 0);
    range.end = tensor.offset + tensor.bytes;
    unit.slot_bytes = range.at + round_up(range.end, kReadAlignment) - range.begin;
  }
  if (moved) {
    // Moved up, the last first, and each a little farther than the one before it: none overwrites another.
    uint64_t way = 0;
    for (WeightUnit::Tensor* t : by_offset) {
      t->used_at = round_up(t->read_at, kElementAlignment) + way;
      way += kElementAlignment;
    }
    unit.slot_bytes += kReadAlignment;
  }
  for (WeightUnit::Tensor* t : by_offset) {
    if (is_in_place(t->arrangement.form)) continue;
    t->used_at = unit.slot_bytes;
    unit.slot_bytes += round_up(t->used_bytes, kReadAlignment);
  }
}

}  // namespace

std::vector<WeightUnit> weight_units(const Binding& binding) {
  const auto& table = binding.table;
  const bool has_experts = std::any_of(table.begin(), table.end(), [](const TensorSpec& t) { return t.expert >= 0; });
  std::vector<WeightUnit> units;
  for (size_t i = 0; i < table.size(); ++i) {
    const TensorSpec& t = table[i];
    if (!is_mlp(t.role) || (t.expert < 0 && has_experts)) continue;
    if (units.empty() || units.back().layer != t.layer || units.back().expert != t.expert) {
      units.emplace_back().layer = t.layer;
      units.back().expert = t.expert;
    }
    WeightUnit& unit = units.back();
    const TensorInfo& info = *binding.tensors[i];
    const uint64_t used = bytes_in_memory(t, info);
    unit.tensors.push_back({i, t.role, t.part, info.bytes, used, 0, 0, arrangement_of(t, info.dtype)});
    unit.resident_bytes += WeightStore::bytes_of_tensor(std::max(used, info.bytes));
  }
  for (WeightUnit& unit : units) lay_out(unit, binding);
  return units;
}

std::vector<WeightUnit> weight_units(const std::vector<TensorSpec>& table, DType dtype) {
  Binding binding;
  binding.table = table;
  uint64_t offset = 0;
  for (const TensorSpec& t : table) {
    if (t.part == Part::values && (t.role == Role::gate || t.role == Role::gate_up)) offset = round_up(offset, kReadAlignment);
    TensorInfo& info = binding.tensors.emplace_back().emplace();
    info.dtype = expected_dtype(t, dtype);
    info.offset = offset;
    info.bytes = bytes_of(info.dtype, elements_of(t));
    offset += info.bytes;
  }
  return weight_units(binding);
}

}  // namespace moegen
