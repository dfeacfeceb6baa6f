#include "plan/device_plan.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "base/size.h"
#include "model/gpu_buffers.h"
#include "plan/plan.h"

namespace moegen {
namespace {

constexpr int64_t kMostPassTokens = 16384;  // where none are asked for: more hide no more of the link's time on most machines
constexpr int64_t kLeastPassTokens = 64;
constexpr int64_t kWaveTokens = 4096;
constexpr int64_t kExpertTokens = 4096;
constexpr uint64_t kLogitBytes = 128 << 20;
constexpr uint64_t kStageShare = 16;  // of device memory, each half, at most; at least a whole sequence

PassSizes sizes_of(const PlanInput& in, int64_t pass_tokens) {
  PassSizes s;
  s.page_tokens = kPageTokens;
  s.threads = in.threads;
  s.pass_tokens = pass_tokens;
  s.sequences = std::min(in.max_num_seqs.value_or(pass_tokens), pass_tokens);
  s.attention_micro_batch = std::min(in.attention_micro_batch.value_or(s.sequences), s.sequences);
  s.expert_micro_batch = std::min(in.expert_micro_batch.value_or(kExpertTokens), pass_tokens);
  s.wave_tokens = std::min(kWaveTokens, pass_tokens);
  const auto row_bytes = static_cast<uint64_t>(in.spec->vocab) * sizeof(float);
  s.logit_rows = std::min(static_cast<int64_t>(std::clamp<uint64_t>(kLogitBytes / row_bytes, 8, 512)), pass_tokens);
  return s;
}

size_t buffer_bytes(const PlanInput& in, const DeviceBudget& device, const PassSizes& sizes) {
  return gpu_buffer_bytes(*in.spec, in.act, sizes, device.expanded_elements);
}

// Each half holds the longest sequence at least.
void choose_least_staging(const PlanInput& in, Plan& plan) {
  DevicePlan& out = *plan.device;
  for (const LayerSpec& layer : in.spec->layers)
    out.stage_slot_bytes = std::max(out.stage_slot_bytes, layer_page_bytes(layer.attention, in.kv_dtype));
  out.stage_slots = ceil_div<int64_t>(plan.max_model_len, kPageTokens);
}

// More, where that is little of the memory: `room` beyond the least of everything.
void widen_staging(const DeviceBudget& device, uint64_t room, Plan& plan) {
  DevicePlan& out = *plan.device;
  const auto share = static_cast<int64_t>(std::min(device.memory / kStageShare, room / 4) / out.stage_slot_bytes);
  out.stage_slots = std::clamp(share, out.stage_slots, std::max(out.stage_slots, plan.sizes.sequences * out.stage_slots));
}

uint64_t staging_bytes(const DevicePlan& plan) { return 2 * static_cast<uint64_t>(plan.stage_slots) * plan.stage_slot_bytes; }

[[noreturn]] void too_small(const DeviceBudget& device, uint64_t weights, const Plan& plan) {
  const uint64_t least = plan.device->buffer_bytes + staging_bytes(*plan.device) + weights;
  throw_error(
      ErrorCode::out_of_memory,
      "--device-memory {} is too small: at least {} ({} bytes) are needed: {} for what is no expert and a ring of experts, {} for a pass of {} "
      "tokens, {} to stage {} tokens of KV twice (--max-model-len)",
      format_bytes(device.memory), format_bytes(least), least, format_bytes(weights), format_bytes(plan.device->buffer_bytes), plan.sizes.pass_tokens,
      format_bytes(staging_bytes(*plan.device)), plan.max_model_len);
}

void divide_device(const PlanInput& in, const DeviceBudget& device, Plan& plan) {
  DevicePlan& out = *plan.device;
  const WeightPlanInput weights{device.units, device.weight_bytes, in.weight_slots};
  const uint64_t least_weights = least_weight_bytes(weights);
  choose_least_staging(in, plan);
  int64_t tokens = in.max_pass_tokens.value_or(kMostPassTokens);
  uint64_t least = 0;
  for (;; tokens /= 2) {
    plan.sizes = sizes_of(in, tokens);
    out.buffer_bytes = buffer_bytes(in, device, plan.sizes);
    least = out.buffer_bytes + staging_bytes(out) + least_weights;
    const bool fits = least <= device.memory && (in.max_pass_tokens || out.buffer_bytes <= device.memory / 2);
    if (fits || in.max_pass_tokens || tokens <= kLeastPassTokens) break;
  }
  if (least > device.memory) too_small(device, least_weights, plan);
  widen_staging(device, device.memory - least, plan);
  out.weights = plan_weights(weights, std::min(device.memory - out.buffer_bytes - staging_bytes(out), device.weight_bytes));
  out.memory = {{"weights", out.weights.resident_bytes},
                {"ring of experts", static_cast<uint64_t>(out.weights.slots) * out.weights.slot_bytes},
                {"KV on its way", staging_bytes(out)},
                {"activations", out.buffer_bytes}};
}

// What a pass hands over: embedding rows, angles, rows and tiles of attention, logits.
uint64_t hand_over_bytes(const PlanInput& in, const PassSizes& s) {
  constexpr uint64_t kRopeBytes = 2048;
  return static_cast<uint64_t>(s.pass_tokens) * (static_cast<uint64_t>(in.spec->hidden) * sizeof(float) + kRopeBytes) +
         static_cast<uint64_t>(s.logit_rows * in.spec->vocab) * sizeof(float);
}

void divide_host(const PlanInput& in, Plan& plan) {
  plan.answer_bytes = choose_answer_bytes(in.host_memory);
  const uint64_t hand_over = hand_over_bytes(in, plan.sizes);
  const uint64_t fixed = in.weight_bytes + in.process_bytes + plan.answer_bytes + hand_over;
  const uint64_t page = page_cost(plan.kv, plan.max_model_len);
  const uint64_t asked = in.kv_memory.value_or(0) / plan.kv.page_bytes;
  const uint64_t least = fixed + page * std::max<uint64_t>(plan.kv.groups.size(), asked);
  if (least > in.host_memory) {
    throw_error(ErrorCode::out_of_memory, "--host-memory {} is too small for a run on a GPU: at least {} are needed ({} weights, {} KV pages)",
                format_bytes(in.host_memory), format_bytes(least), format_bytes(in.weight_bytes), format_bytes(least - fixed));
  }
  const uint64_t wanted =
      static_cast<uint64_t>(plan.sizes.sequences) *
      static_cast<uint64_t>(pages_held(plan.kv.groups, kPageTokens, plan.max_model_len, std::min(plan.max_model_len, plan.sizes.pass_tokens)));
  const uint64_t fitting = in.kv_memory ? std::max<uint64_t>(plan.kv.groups.size(), asked) : (in.host_memory - fixed) / page;
  plan.kv_pages = static_cast<int32_t>(std::min<uint64_t>({wanted, fitting, uint64_t{1} << 30}));
  const auto pages = static_cast<uint64_t>(plan.kv_pages);
  plan.memory = {{"weights", in.weight_bytes},
                 {"KV pages", pages * plan.kv.page_bytes},
                 {"tokens and tables", pages * (page - plan.kv.page_bytes)},
                 {"what the device is handed", hand_over},
                 {"requests and answers", plan.answer_bytes},
                 {"process", in.process_bytes}};
}

}  // namespace

Plan make_device_plan(const PlanInput& in, const DeviceBudget& device) {
  Plan plan;
  plan.max_model_len = choose_max_model_len(in);
  plan.kv = KvLayout(*in.spec, in.kv_dtype);
  plan.device.emplace();
  divide_device(in, device, plan);
  divide_host(in, plan);
  return plan;
}

}  // namespace moegen
