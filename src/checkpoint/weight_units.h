#pragma once

#include <cstdint>
#include <vector>

#include "checkpoint/arrange.h"
#include "checkpoint/checkpoint.h"

namespace moegen {

/// What streams from storage as a whole: the matrices of an expert, or of the MLP of a layer without experts. It is read into
/// a slot in aligned ranges that hold its tensors, neighbours together, and used there as the files have it, or turned.
struct WeightUnit {
  struct Tensor {
    size_t table_idx = 0;
    Role role = Role::gate;
    Part part = Part::values;
    uint64_t bytes = 0;  ///< in the file
    uint64_t used_bytes = 0;
    uint64_t read_at = 0;  ///< where its bytes come to lie, from the slot's begin
    uint64_t used_at = 0;  ///< elsewhere only where `arrangement` needs it, or the file has it at an offset that is no multiple of its elements
    Arrangement arrangement = {};  ///< on its way from `read_at` to `used_at`; without addresses
  };
  struct Range {
    size_t file_idx = 0;
    uint64_t begin = 0;  ///< in the file, a multiple of kReadAlignment
    uint64_t end = 0;    ///< of the last tensor in it
    uint64_t at = 0;     ///< in the slot, a multiple of kReadAlignment
  };
  int layer = 0;
  int expert = -1;              ///< -1: the MLP of a layer without experts
  std::vector<Tensor> tensors;  ///< in the table's order
  std::vector<size_t> order;    ///< of these, as they lie in the slot
  std::vector<Range> ranges;
  uint64_t resident_bytes = 0;  ///< in a WeightStore
  uint64_t slot_bytes = 0;      ///< what a slot must have; a multiple of kReadAlignment
};

/// The units of a model, in the order of computation: its experts, or where it has none at all, its MLPs. The binding must fit.
[[nodiscard]] std::vector<WeightUnit> weight_units(const Binding& binding);
/// As they would be in one file of `dtype` and what is quantised, each unit by itself, for a model of which there are no weights here.
[[nodiscard]] std::vector<WeightUnit> weight_units(const std::vector<TensorSpec>& table, DType dtype);

}  // namespace moegen
