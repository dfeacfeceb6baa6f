#include "plan/device_plan.h"

#include <algorithm>
#include <set>

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

// Whether the CPU may have some of the experts that are not in device memory.
bool shares_experts(const DeviceBudget& device) {
  return device.cpu_expert_tokens ? *device.cpu_expert_tokens > 0 : device.machine != nullptr && device.machine->link;
}

double attention_share(const PlanInput& in) { return in.gpu ? in.gpu->cpu_attention_share.value_or(0) : 0; }

PassSizes sizes_of(const PlanInput& in, const DeviceBudget& device, int64_t pass_tokens) {
  PassSizes s;
  s.page_tokens = kPageTokens;
  s.threads = in.threads;
  s.pass_tokens = pass_tokens;
  s.sequences = std::min(in.max_num_seqs ? *in.max_num_seqs : default_sequences(in, pass_tokens), pass_tokens);
  s.attention_micro_batch = std::min(in.attention_micro_batch.value_or(s.sequences), s.sequences);
  s.expert_micro_batch = std::min(in.expert_micro_batch.value_or(kExpertTokens), pass_tokens);
  s.wave_tokens = std::min(kWaveTokens, pass_tokens);
  const auto row_bytes = static_cast<uint64_t>(in.spec->vocab) * sizeof(float);
  s.logit_rows = std::min(static_cast<int64_t>(std::clamp<uint64_t>(kLogitBytes / row_bytes, 8, 512)), pass_tokens);
  if (shares_experts(device)) s.cpu_expert_rows = std::min(kCpuRows, pass_tokens);
  if (attention_share(in) > 0) s.cpu_attention_rows = std::min(kCpuRows, pass_tokens);
  if (std::any_of(in.spec->layers.begin(), in.spec->layers.end(), [](const LayerSpec& layer) { return layer.attention.is_linear(); }))
    s.cpu_linear_rows = std::min(kCpuRows, 2 * pass_tokens);
  return s;
}

size_t buffer_bytes(const PlanInput& in, const DeviceBudget& device, const PassSizes& sizes) {
  return gpu_buffer_bytes(*in.spec, in.act, sizes, device.expanded_elements);
}

// Each half holds the longest sequence at least.
void choose_least_staging(const PlanInput& in, Plan& plan) {
  DevicePlan& out = *plan.device;
  out.stage_slot_bytes = 1;  // also where all attention is linear
  for (const LayerSpec& layer : in.spec->layers)
    out.stage_slot_bytes = std::max(out.stage_slot_bytes, layer_page_bytes(layer.attention, in.kv_dtype));
  out.stage_slots = ceil_div<int64_t>(plan.max_model_len, kPageTokens);
}

// More, where that is little of the memory: `room` beyond the least of everything.
void widen_staging(const DeviceBudget& device, uint64_t room, Plan& plan) {
  DevicePlan& out = *plan.device;
  const auto share = static_cast<int64_t>(std::min(device.room() / kStageShare, room / 4) / out.stage_slot_bytes);
  out.stage_slots = std::clamp(share, out.stage_slots, std::max(out.stage_slots, plan.sizes.sequences * out.stage_slots));
}

uint64_t staging_bytes(const DevicePlan& plan) { return 2 * static_cast<uint64_t>(plan.stage_slots) * plan.stage_slot_bytes; }

[[noreturn]] void too_small(const DeviceBudget& device, uint64_t weights, const Plan& plan) {
  const uint64_t least = plan.device->buffer_bytes + staging_bytes(*plan.device) + weights + device.overhead;
  throw_error(
      ErrorCode::out_of_memory,
      "--device-memory {} is too small: at least {} ({} bytes) are needed: {} for what is no expert and a ring of experts, {} for a pass of {} "
      "tokens, {} to stage {} tokens of KV twice (--max-model-len){}",
      format_bytes(device.memory), format_bytes(least), least, format_bytes(weights), format_bytes(plan.device->buffer_bytes), plan.sizes.pass_tokens,
      format_bytes(staging_bytes(*plan.device)), plan.max_model_len,
      device.overhead > 0 ? fmt::format(", {} for the context and the libraries", format_bytes(device.overhead)) : "");
}

// As many as were asked for; else so many that the CPU is done with them when the link is with the others, by the machine's rates.
CpuExperts cpu_experts_of(const PlanInput& in, const DeviceBudget& device, const Plan& plan) {
  const int64_t rows = plan.sizes.cpu_expert_rows;
  CpuExperts out{.most_tokens = rows, .most_rows = rows};
  if (device.machine != nullptr && device.machine->link)
    out = balanced_cpu_experts(*in.spec, *in.work, *device.machine, static_cast<double>(plan.device->weights.slot_bytes), rows);
  if (device.cpu_expert_tokens) {
    out.most_tokens = std::min(*device.cpu_expert_tokens, rows);
    out.copy_seconds = 0;
  }
  return out;
}

// The largest unit, as in device memory.
uint64_t largest_unit(const DeviceBudget& device) {
  uint64_t most = 0;
  for (const WeightUnit& unit : device.units) most = std::max(most, unit.slot_bytes);
  return most;
}

// Of weights, `most` have a place there. `stored`: some come from storage, through a slot of their own.
void divide_device(const PlanInput& in, const DeviceBudget& device, uint64_t most, bool stored, Plan& plan) {
  DevicePlan& out = *plan.device;
  const WeightPlanInput weights{device.units, device.weight_bytes, in.weight_slots};
  out.stored_slot_bytes = stored ? largest_unit(device) : 0;
  const uint64_t least_weights = least_weight_bytes(weights) + out.stored_slot_bytes;
  choose_least_staging(in, plan);
  int64_t tokens = in.max_pass_tokens.value_or(kMostPassTokens);
  uint64_t least = 0;
  for (;; tokens /= 2) {
    plan.sizes = sizes_of(in, device, tokens);
    out.buffer_bytes = buffer_bytes(in, device, plan.sizes);
    least = out.buffer_bytes + staging_bytes(out) + least_weights;
    const bool fits = least <= device.room() && (in.max_pass_tokens || out.buffer_bytes <= device.room() / 2);
    if (fits || in.max_pass_tokens || tokens <= kLeastPassTokens) break;
  }
  if (least > device.room()) too_small(device, least_weights, plan);
  widen_staging(device, device.room() - least, plan);
  const uint64_t room = device.room() - out.buffer_bytes - staging_bytes(out) - out.stored_slot_bytes;
  out.weights = plan_weights(weights, std::min({room, device.weight_bytes, std::max(most, least_weight_bytes(weights))}));
  if (out.weights.streamed.empty() && plan.sizes.cpu_expert_rows > 0) {
    plan.sizes.cpu_expert_rows = 0;
    out.buffer_bytes = buffer_bytes(in, device, plan.sizes);
  }
}

// The same for who asks where weights and KV are, and what passes will take.
GpuPlan gpu_plan_of(const PlanInput& in, const DeviceBudget& budget, const Plan& plan) {
  const DevicePlan& device = *plan.device;
  const WeightPlan& w = device.weights;
  const uint64_t ring = static_cast<uint64_t>(w.slots) * w.slot_bytes + device.stored_slot_bytes;
  GpuPlan out;
  out.cpu_attention_share = attention_share(in);
  if (plan.sizes.cpu_expert_rows > 0) out.cpu_experts = cpu_experts_of(in, budget, plan);
  out.device_weights = static_cast<double>(w.resident_bytes);
  out.host_weights = static_cast<double>(w.streamed_bytes);
  out.storage_weights = static_cast<double>(plan.weights.streamed_bytes);
  out.host_ring = static_cast<double>(plan.weights.bytes() - plan.weights.resident_bytes);
  out.ring = static_cast<double>(ring + staging_bytes(device));
  out.back_tokens = kPageTokens;
  out.memory = {
      {"weights", w.resident_bytes}, {"ring of experts", ring}, {"KV on its way", staging_bytes(device)}, {"activations", device.buffer_bytes}};
  if (budget.overhead > 0) out.memory.emplace_back("context and libraries", budget.overhead);
  return out;
}

// What a pass hands over: embedding rows, angles, rows and tiles of attention, logits and what is found out about them.
uint64_t hand_over_bytes(const PlanInput& in, const PassSizes& s) {
  constexpr uint64_t kRopeBytes = 2048, kSummaryBytes = sizeof(LogitQuery) + sizeof(LogitSummary) + kLogitCandidates * sizeof(LogitCandidate);
  return static_cast<uint64_t>(s.pass_tokens) * (static_cast<uint64_t>(in.spec->hidden) * sizeof(float) + kRopeBytes) +
         static_cast<uint64_t>(s.logit_rows) * (static_cast<uint64_t>(in.spec->vocab) * sizeof(float) + kSummaryBytes);
}

// What the CPU computes in.
uint64_t share_bytes(const PlanInput& in, const PassSizes& sizes) {
  const PassSizes cpu = cpu_sizes(sizes);
  return cpu.pass_tokens > 0 ? Buffers::bytes_needed(*in.spec, in.act, cpu) : 0;
}

uint64_t states_bytes(const Plan& plan) { return plan.kv.state_bytes() * static_cast<uint64_t>(plan.sizes.sequences); }

// Of host memory, what weights have. Where that is not all of them, experts that are not on the device come from storage.
void divide_weights(const PlanInput& in, const DeviceBudget& device, Plan& plan) {
  const uint64_t least_pages = page_cost(plan.kv, plan.max_model_len) * plan.kv.groups.size();
  const uint64_t rest = in.process_bytes + choose_answer_bytes(in.host_memory) + hand_over_bytes(in, plan.sizes) + share_bytes(in, plan.sizes) +
                        states_bytes(plan) + least_pages;
  plan.weights.resident_bytes = in.weight_bytes;
  if (in.units.empty() || (in.weight_bytes <= in.weight_memory.value_or(in.weight_bytes) && in.weight_bytes + rest <= in.host_memory)) return;
  divide_device(in, device, device.weight_bytes, true, plan);
  // What stays there is in host memory too.
  const uint64_t budget = choose_weight_budget(in, rest), least = least_weight_bytes({in.units, in.weight_bytes, {}});
  const uint64_t room = budget - std::min(budget, least);  // for experts that stay
  divide_device(in, device, least_weight_bytes({device.units, device.weight_bytes, in.weight_slots}) + room, true, plan);
  std::vector<int32_t>& streamed = plan.device->weights.streamed;
  const std::vector<int32_t> candidates = streamed;
  std::vector<WeightUnit> units;
  for (const int32_t unit : candidates) units.push_back(in.units[static_cast<size_t>(unit)]);
  PlanInput host = in;
  host.units = units;
  host.weight_slots.reset();  // those of the device
  plan.weights = plan_weights({units, in.weight_bytes, {}}, choose_weight_budget(host, rest));
  plan.weights.num_units = static_cast<int>(in.units.size());
  for (int32_t& unit : plan.weights.streamed) unit = candidates[static_cast<size_t>(unit)];
  const std::set<int32_t> stored(plan.weights.streamed.begin(), plan.weights.streamed.end());
  std::erase_if(streamed, [&](int32_t unit) { return stored.contains(unit); });
  plan.device->weights.streamed_bytes -= plan.weights.streamed_bytes;
}

struct HostNeeds {
  uint64_t answers, hand_over, share, states, fixed, page, least;  // fixed: all but pages; least: with the fewest pages
};
HostNeeds host_needs(const PlanInput& in, const Plan& plan) {
  HostNeeds n{choose_answer_bytes(in.host_memory),
              hand_over_bytes(in, plan.sizes),
              share_bytes(in, plan.sizes),
              states_bytes(plan),
              0,
              page_cost(plan.kv, plan.max_model_len),
              0};
  n.fixed = plan.weights.bytes() + in.process_bytes + n.answers + n.hand_over + n.share + n.states;
  const uint64_t asked = in.kv_memory.value_or(0) / plan.kv.page_bytes;
  n.least = n.fixed + n.page * std::max<uint64_t>(plan.kv.groups.size(), asked);
  return n;
}

void divide_host(const PlanInput& in, Plan& plan) {
  const auto [answers, hand_over, share, states, fixed, page, least] = host_needs(in, plan);
  plan.answer_bytes = answers;
  if (least > in.host_memory) {
    throw_error(
        ErrorCode::out_of_memory,
        "--host-memory {} is too small for a run on a GPU: at least {} are needed ({} weights, {} KV pages, {} what a pass of {} tokens hands "
        "over, {} what the CPU computes, {} requests and answers, {} the process): less --weight-memory, --max-pass-tokens or --kv-memory",
        format_bytes(in.host_memory), format_bytes(least), format_bytes(plan.weights.bytes()), format_bytes(least - fixed), format_bytes(hand_over),
        plan.sizes.pass_tokens, format_bytes(share + states), format_bytes(answers), format_bytes(in.process_bytes));
  }
  const uint64_t wanted =
      static_cast<uint64_t>(plan.sizes.sequences) *
      static_cast<uint64_t>(pages_held(plan.kv.groups, kPageTokens, plan.max_model_len, std::min(plan.max_model_len, plan.sizes.pass_tokens)));
  const uint64_t fitting = in.kv_memory ? (least - fixed) / page : (in.host_memory - fixed) / page;
  plan.kv_pages = static_cast<int32_t>(std::min<uint64_t>({wanted, fitting, uint64_t{1} << 30}));
  const auto pages = static_cast<uint64_t>(plan.kv_pages);
  plan.memory = {{"weights", plan.weights.resident_bytes},    {"slots of experts from storage", plan.weights.bytes() - plan.weights.resident_bytes},
                 {"KV pages", pages * plan.kv.page_bytes},    {"tokens and tables", pages * (page - plan.kv.page_bytes)},
                 {"what the device is handed", hand_over},    {"what the CPU computes beside it", share},
                 {"requests and answers", plan.answer_bytes}, {"process", in.process_bytes}};
  if (states > 0) plan.memory.emplace_back("recurrent states", states);
}

}  // namespace

PassSizes cpu_sizes(const PassSizes& sizes) {
  PassSizes out = sizes;
  out.pass_tokens = out.wave_tokens = out.expert_micro_batch = std::max({sizes.cpu_expert_rows, sizes.cpu_attention_rows, sizes.cpu_linear_rows});
  out.sequences = out.attention_micro_batch = std::min(sizes.sequences, out.pass_tokens);
  out.logit_rows = 0;
  return out;
}

Plan make_device_plan(const PlanInput& in, const DeviceBudget& device) {
  PlanInput sized = in;
  for (;;) {
    Plan plan;
    plan.max_model_len = choose_max_model_len(sized);
    plan.swap = sized.swap;
    plan.kv = KvLayout(*sized.spec, sized.kv_dtype);
    plan.device.emplace();
    divide_device(sized, device, device.weight_bytes, false, plan);
    divide_weights(sized, device, plan);
    const int64_t tokens = plan.sizes.pass_tokens;
    if (!in.max_pass_tokens && tokens > kLeastPassTokens && host_needs(sized, plan).least > in.host_memory) {
      sized.max_pass_tokens = tokens / 2;  // hands less over
      continue;
    }
    plan.gpu = gpu_plan_of(sized, device, plan);
    divide_host(sized, plan);
    return plan;
  }
}

}  // namespace moegen
