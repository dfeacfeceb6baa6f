#include "api/gpu_setup.h"

#include <charconv>

#include "base/error.h"
#include "base/size.h"
#include "device/emulated/emulated_device.h"
#include "device/gpu.h"
#include "kernels/cuda/emulated/emulated_kernels.h"
#include "model/gpu_support.h"

namespace moegen {
namespace {

// The number behind "name:", or `otherwise` for the name alone; empty for another name.
std::optional<int> number_behind(std::string_view text, std::string_view name, int otherwise) {
  if (text == name) return otherwise;
  if (!text.starts_with(name) || text.size() < name.size() + 2 || text[name.size()] != ':') return std::nullopt;
  text.remove_prefix(name.size() + 1);
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 0) return std::nullopt;
  return number;
}

}  // namespace

bool computes_on_cpu(const EngineOptions& options) { return options.device == "auto" || options.device == "cpu"; }

std::unique_ptr<Device> open_device(const EngineOptions& options) {
  if (computes_on_cpu(options)) {
    if (options.device_memory)
      throw_error(ErrorCode::unsupported, "--device-memory: --device {} computes on the CPU; use --host-memory, or --device cuda", options.device);
    if (options.cpu_attention_share)
      throw_error(ErrorCode::unsupported, "--cpu-attention-share is for runs on a GPU, and --device {} computes all on the CPU", options.device);
    if (options.cpu_expert_tokens)
      throw_error(ErrorCode::unsupported, "--cpu-expert-tokens is for runs on a GPU, and --device {} computes all on the CPU", options.device);
    return nullptr;
  }
  if (const auto index = number_behind(options.device, "cuda", 0)) return open_gpu(*index);
  if (const auto seed = number_behind(options.device, "emulated", 1)) {
    EmulatedDevice::Options emulated;
    emulated.seed = static_cast<uint64_t>(*seed);
    emulated.memory_bytes = options.device_memory.value_or(emulated.memory_bytes);
    return std::make_unique<EmulatedDevice>(emulated_kernels(), emulated);
  }
  throw_error(ErrorCode::invalid_argument, "--device {}: expected auto, cpu, cuda[:N] or emulated[:SEED]", options.device);
}

GpuSetup gpu_setup(std::unique_ptr<Device> device, const EngineOptions& options, const ModelSpec& spec, DType act, const Binding& binding, bool dummy,
                   DType dummy_dtype) {
  check_gpu_support(spec);
  GpuSetup out;
  const std::vector<TensorView> planned =
      dummy ? WeightStore::planned_views(binding.table, dummy_dtype, act) : WeightStore::planned_views(binding, act);
  out.units = GpuWeights::device_units(dummy ? weight_units(binding.table, dummy_dtype) : weight_units(binding));
  out.expanded_elements = expanded_elements(binding.table, planned, act);
  const size_t free = device->free_memory();
  if (options.device_memory.value_or(0) > free)
    throw_error(ErrorCode::out_of_memory, "--device-memory {}: {} has {} left", format_bytes(*options.device_memory), device->name(),
                format_bytes(free));
  out.budget = {options.device_memory.value_or(free / 10 * 9),
                options.device_memory ? device->overhead() : 0,
                out.units,
                GpuWeights::bytes_needed(binding.table, planned, spec.tied_embeddings),
                out.expanded_elements,
                nullptr,
                options.cpu_expert_tokens};
  out.device = std::move(device);
  return out;
}

}  // namespace moegen
