#pragma once

#include "checkpoint/weight_store.h"
#include "plan/machine.h"
#include "plan/plan.h"
#include "spec/tensor_table.h"

namespace moegen {

/// A machine of round numbers, without curves: rates come from peak and bandwidth.
inline Machine round_machine() {
  Machine m;
  m.name = "round";
  m.cpu.cores = 2;
  m.cpu.bf16_flops = 1e12;
  m.cpu.attention_flops = 5e11;
  m.dram = {uint64_t{64} << 30, 4e10, {}};
  m.ssd = Machine::Ssd{uint64_t{1} << 40, 2e9, {}, 1, 1, ""};
  return m;
}

/// The same with a GPU.
inline Machine round_gpu_machine(uint64_t gpu_memory) {
  Machine m = round_machine();
  m.gpu.emplace();
  m.gpu->memory_bytes = gpu_memory;
  m.gpu->bf16_flops = 1e14;
  m.gpu->memory_bandwidth = 1e12;
  m.link.emplace();
  m.link->h2d = m.link->d2h = 2e10;
  return m;
}

/// Of bfloat16 weights, K and V.
inline ModelWork work_of(const ModelSpec& spec) { return model_work(spec, tensor_table(spec), DType::bf16, DType::bf16); }

/// What plans for bfloat16 weights of a model are made from; `spec`, `work` (work_of it) and `units` (weight_units of its tensor table) must outlive
/// it.
inline PlanInput budget_for(const ModelSpec& spec, const ModelWork& work, std::span<const WeightUnit> units, uint64_t host_memory) {
  PlanInput in;
  in.spec = &spec;
  in.work = &work;
  in.weight_bytes = WeightStore::bytes_needed(tensor_table(spec), DType::bf16, DType::bf16);
  in.units = units;
  in.host_memory = host_memory;
  return in;
}

}  // namespace moegen
