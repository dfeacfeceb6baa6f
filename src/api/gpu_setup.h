#pragma once

#include <memory>
#include <vector>

#include "checkpoint/weight_store.h"
#include "device/device.h"
#include "moegen/options.h"
#include "pipeline/gpu_executor.h"
#include "plan/plan.h"

namespace moegen {

/// The GPU of a run, and what the weights will be there.
struct GpuSetup {
  std::unique_ptr<Device> device;
  std::vector<WeightUnit> units;  ///< GpuWeights::device_units
  DeviceBudget budget;
  int64_t expanded_elements = 0;
};

/// Whether `--device` names no GPU: auto is the CPU.
[[nodiscard]] bool computes_on_cpu(const EngineOptions& options);
/// What `--device` names: null for cpu and auto; else cuda[:N], or emulated[:SEED], which runs the GPU's kernels on the CPU and checks how the device
/// is used. Throws Error(invalid_argument | unsupported).
[[nodiscard]] std::unique_ptr<Device> open_device(const EngineOptions& options);
/// Throws Error(unsupported | out_of_memory).
[[nodiscard]] GpuSetup gpu_setup(std::unique_ptr<Device> device, const EngineOptions& options, const ModelSpec& spec, DType act,
                                 const Binding& binding, bool dummy, DType dummy_dtype);

}  // namespace moegen
