#include "plan/plan.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "base/size.h"

namespace moegen {
namespace {

constexpr int64_t kLeastPassTokens = 64;
constexpr int64_t kMaxPassTokens = 1 << 24;  // with the bounds of config.json, no size of a pass overflows
constexpr int64_t kDefaultSequences = 1024;
constexpr int64_t kLeastWaveTokens = 1024;  // with as many, projections compute rather than read their weights
constexpr uint64_t kLogitBytes = 128 << 20;
constexpr uint64_t kLeastAnswerBytes = 16 << 20;
constexpr uint64_t kMostAnswerBytes = 1 << 30;
constexpr int64_t kTokenBytes = 16;                  // of a sequence: ids and text
constexpr uint64_t kMaxKvBytes = uint64_t{1} << 60;  // and sums with it stay below 2^64

uint64_t activation_bytes(const PlanInput& in, const PassSizes& sizes) { return Buffers::bytes_needed(*in.spec, in.act, sizes); }

// Recurrent states of a sequence.
uint64_t state_bytes(const PlanInput& in) { return KvLayout(*in.spec, in.kv_dtype).state_bytes(); }

// Of all sequences in flight.
uint64_t state_bytes(const PlanInput& in, const PassSizes& sizes) { return state_bytes(in) * static_cast<uint64_t>(sizes.sequences); }

// What a size of passes costs.
uint64_t pass_bytes(const PlanInput& in, const PassSizes& sizes) { return activation_bytes(in, sizes) + state_bytes(in, sizes); }

void check_positive(const std::optional<int64_t>& option, const char* name, int64_t limit = int64_t{1} << 31) {
  if (option && (*option < 1 || *option > limit)) throw_error(ErrorCode::invalid_argument, "{} must be from 1 to {}, not {}", name, limit, *option);
}

// Attention takes the pass in waves where what it needs for all of it would be more than what the experts or the logits need.
int64_t choose_wave(const PlanInput& in, PassSizes s) {
  s.wave_tokens = std::min(kLeastWaveTokens, s.pass_tokens);
  const uint64_t free = activation_bytes(in, s);
  int64_t best = 0;
  do {
    best = s.wave_tokens;
    s.wave_tokens = std::min(2 * best, s.pass_tokens);
  } while (s.wave_tokens > best && activation_bytes(in, s) <= free);
  return best;
}

// Those of all plans.
void check_counts(const PlanInput& in) {
  check_positive(in.max_pass_tokens, "--max-pass-tokens", kMaxPassTokens);
  check_positive(in.max_num_seqs, "--max-num-seqs");
  check_positive(in.attention_micro_batch, "--attention-micro-batch");
  check_positive(in.expert_micro_batch, "--expert-micro-batch");
  check_positive(in.weight_slots, "--weight-slots", 1 << 20);
}

void check_kv_memory(const KvLayout& kv, uint64_t memory) {
  const size_t least = kv.groups.size() * kv.page_bytes;
  if (memory < least)
    throw_error(ErrorCode::out_of_memory, "--kv-memory {} is less than the pages of {} tokens: at least {} bytes are needed", format_bytes(memory),
                kPageTokens, least);
}

PassSizes choose_sizes(const PlanInput& in, int64_t pass_tokens) {
  PassSizes s;
  s.page_tokens = kPageTokens;
  s.threads = in.threads;
  s.pass_tokens = pass_tokens;
  s.sequences = std::min(in.max_num_seqs ? *in.max_num_seqs : default_sequences(in, kDefaultSequences), pass_tokens);
  s.attention_micro_batch = std::min(in.attention_micro_batch.value_or(s.sequences), s.sequences);
  s.expert_micro_batch = std::min(in.expert_micro_batch.value_or(kDefaultExpertMicroBatch), pass_tokens);
  const auto row_bytes = static_cast<uint64_t>(in.spec->vocab) * sizeof(float);
  s.logit_rows = std::min<int64_t>(static_cast<int64_t>(std::clamp<uint64_t>(kLogitBytes / row_bytes, 8, 512)), pass_tokens);
  s.wave_tokens = choose_wave(in, s);
  return s;
}

[[noreturn]] void too_small(const PlanInput& in, uint64_t weights, uint64_t needed, const char* what) {
  // With more memory there is more room for answers.
  const uint64_t rest = needed - choose_answer_bytes(in.host_memory);
  while (rest + choose_answer_bytes(needed) > needed) needed = rest + choose_answer_bytes(needed);
  throw_error(ErrorCode::out_of_memory,
              "--host-memory {} is too small{}: at least {} ({} bytes) are needed ({} weights, {} the process itself, the rest activations, KV "
              "pages, requests "
              "and answers)",
              format_bytes(in.host_memory), what, format_bytes(needed), needed, format_bytes(weights), format_bytes(in.process_bytes));
}

WeightPlanInput weight_input(const PlanInput& in) { return {in.units, in.weight_bytes, in.weight_slots}; }

// "CPU experts: those with at most 16 tokens in a pass"
std::string describe_cpu_experts(const CpuExperts& e) {
  return e.balanced() ? fmt::format(
                            "CPU experts: of those that stream the ones with the fewest tokens, as long as the CPU is done before the link; {} "
                            "tokens of a layer at most",
                            e.most_rows)
                      : fmt::format("CPU experts: of those that stream the ones with at most {} tokens in a pass; {} tokens of a layer at most",
                                    e.most_tokens, e.most_rows);
}

// "streaming: 56 of 512 experts stay; 4.0 GiB a pass come through 24 slots of 9.0 MiB"
std::string describe_streaming(const WeightPlan& w, const char* from = "storage") {
  return fmt::format("streaming: {} of {} experts stay; up to {} a pass come from {} through {} slots of {}",
                     w.num_units - static_cast<int>(w.streamed.size()), w.num_units, format_bytes(w.streamed_bytes), from, w.slots,
                     format_bytes(w.slot_bytes));
}

// ", 2 for every 32 tokens, of which 1 is given back behind a window of 128"
std::string describe_groups(const std::vector<KvGroup>& groups) {
  std::string text;
  if (groups.size() > 1) text += fmt::format(", {} for every {} tokens", groups.size(), kPageTokens);
  const auto bounded = std::count_if(groups.begin(), groups.end(), [](const KvGroup& g) { return g.bounded(); });
  if (bounded == 0) return text;
  const KvGroup& one = *std::find_if(groups.begin(), groups.end(), [](const KvGroup& g) { return g.bounded(); });
  text += groups.size() > 1 ? fmt::format(", {} of them given back behind", bounded) : ", given back behind";
  return text + (one.chunk > 0 ? fmt::format(" chunks of {}", one.chunk) : fmt::format(" a window of {}", one.window));
}

// "memory: weights 3.1 GiB, .. together 5.0 GiB"
std::string describe_memory(const char* name, const std::vector<std::pair<std::string, uint64_t>>& memory) {
  std::string line = fmt::format("{}:", name);
  uint64_t sum = 0;
  for (const auto& [purpose, bytes] : memory) {
    if (bytes > 0) line += fmt::format(" {} {},", purpose, format_bytes(bytes));
    sum += bytes;
  }
  return line + " together " + format_bytes(sum);
}

}  // namespace

int64_t choose_max_model_len(const PlanInput& in) {
  check_positive(in.max_model_len, "--max-model-len");
  const int64_t len = in.max_model_len.value_or(in.spec->max_positions);
  if (len > in.spec->max_positions) {
    throw_error(ErrorCode::invalid_argument, "--max-model-len {} is beyond the {} positions of config.json (max_position_embeddings, rope scaling)",
                len, in.spec->max_positions);
  }
  return len;
}

int64_t default_sequences(const PlanInput& in, int64_t most) {
  const uint64_t each = state_bytes(in);
  return each == 0 ? most : static_cast<int64_t>(std::clamp<uint64_t>(in.host_memory / 3 / each, 1, static_cast<uint64_t>(most)));
}

uint64_t choose_answer_bytes(uint64_t host_memory) { return std::clamp(host_memory / 16, kLeastAnswerBytes, kMostAnswerBytes); }

// What weights may take: the option, which is refused where it is too small; else all they want where `rest`, the least of everything
// else, leaves it; else half of the memory: the other half makes passes large, and large passes are what pays for streaming.
uint64_t choose_weight_budget(const PlanInput& in, uint64_t rest) {
  const uint64_t least = least_weight_bytes(weight_input(in));
  if (in.weight_memory) {
    if (*in.weight_memory >= least) return *in.weight_memory;
    throw_error(ErrorCode::out_of_memory, "--weight-memory {} is too small: at least {} ({} bytes) are needed, {}", format_bytes(*in.weight_memory),
                format_bytes(least), least,
                in.units.empty() ? "all weights: these cannot stream" : "for all that is not an expert, and slots through which experts stream");
  }
  const uint64_t left = in.host_memory - std::min(in.host_memory, rest);
  if (in.weight_bytes <= left) return in.weight_bytes;
  return std::max(least, std::min(left, (in.host_memory - std::min(in.host_memory, in.process_bytes)) / 2));
}

uint64_t page_cost(const KvLayout& kv, int64_t max_model_len) {
  // The longest sequence has the most tokens for each of its pages.
  const int64_t tokens = round_up<int64_t>(max_model_len, kPageTokens);
  const int64_t beside = tokens * kTokenBytes + tokens / kPageTokens * kv.num_groups() * static_cast<int64_t>(sizeof(int32_t));
  return kv.page_bytes + static_cast<uint64_t>(ceil_div(beside, pages_held(kv.groups, kPageTokens, tokens)));
}

Plan make_plan(const PlanInput& in) {
  check_counts(in);
  if (in.kv_memory) check_kv_memory(KvLayout(*in.spec, in.kv_dtype), *in.kv_memory);
  if (in.device != nullptr) return make_device_plan(in, *in.device);
  if (in.gpu) return make_gpu_plan(in);
  Plan plan;
  plan.max_model_len = choose_max_model_len(in);
  plan.swap = in.swap;
  plan.kv = KvLayout(*in.spec, in.kv_dtype);
  plan.answer_bytes = choose_answer_bytes(in.host_memory);
  const uint64_t page = page_cost(plan.kv, plan.max_model_len);
  const uint64_t asked = std::min(in.kv_memory.value_or(0), kMaxKvBytes) / plan.kv.page_bytes;
  const uint64_t least_kv = std::max<uint64_t>(asked, plan.kv.groups.size()) * page;
  const int64_t least_tokens = in.max_pass_tokens.value_or(kLeastPassTokens);
  const int64_t context = std::clamp<int64_t>(in.wanted_context, 1, plan.max_model_len);
  const uint64_t wanted_kv = std::max(least_kv, in.kv_memory ? 0 : static_cast<uint64_t>(pages_held(plan.kv.groups, kPageTokens, context)) * page);
  const uint64_t rest = in.process_bytes + plan.answer_bytes + wanted_kv + pass_bytes(in, choose_sizes(in, least_tokens));
  plan.weights = plan_weights(weight_input(in), choose_weight_budget(in, rest));
  const uint64_t fixed = plan.weights.bytes() + in.process_bytes + plan.answer_bytes;
  plan.sizes = choose_sizes(in, in.max_pass_tokens.value_or(kDefaultPassTokens));
  if (!in.max_pass_tokens) {  // shrink until the pass takes at most a third of what KV could have
    const uint64_t room = in.host_memory > fixed + wanted_kv ? in.host_memory - fixed - wanted_kv : 0;
    while (plan.sizes.pass_tokens > kLeastPassTokens && pass_bytes(in, plan.sizes) > room / (in.kv_memory ? 1 : 3)) {
      plan.sizes = choose_sizes(in, plan.sizes.pass_tokens / 2);
    }
  }
  const uint64_t activations = activation_bytes(in, plan.sizes);
  const uint64_t states = state_bytes(in, plan.sizes);
  if (fixed + activations + states + least_kv > in.host_memory) {
    too_small(in, plan.weights.bytes(), fixed + activations + states + least_kv, in.kv_memory ? " for this --kv-memory" : "");
  }
  const uint64_t wanted =
      static_cast<uint64_t>(plan.sizes.sequences) *
      static_cast<uint64_t>(pages_held(plan.kv.groups, kPageTokens, plan.max_model_len, std::min(plan.max_model_len, plan.sizes.pass_tokens)));
  const uint64_t fitting = in.kv_memory ? asked : (in.host_memory - fixed - activations - states) / page;
  plan.kv_pages = static_cast<int32_t>(std::min<uint64_t>({wanted, fitting, uint64_t{1} << 30}));
  const auto pages = static_cast<uint64_t>(plan.kv_pages);
  plan.memory = {{"weights", plan.weights.resident_bytes},    {"activations", activations},
                 {"KV pages", pages * plan.kv.page_bytes},    {"tokens and tables", pages * (page - plan.kv.page_bytes)},
                 {"requests and answers", plan.answer_bytes}, {"process", in.process_bytes}};
  if (states > 0) plan.memory.emplace_back("recurrent states", states);
  if (plan.weights.slots > 0) plan.memory.emplace_back("weight slots", static_cast<uint64_t>(plan.weights.slots) * plan.weights.slot_bytes);
  return plan;
}

std::vector<std::string> Plan::describe() const {
  std::vector<std::string> lines;
  if (gpu) lines.push_back(describe_memory("HBM", gpu->memory));
  lines.push_back(describe_memory("memory", memory));
  const std::string waves = sizes.wave_tokens < sizes.pass_tokens ? fmt::format(" in waves of {} tokens", sizes.wave_tokens) : "";
  lines.push_back(fmt::format("pass: up to {} tokens of {} sequences, attention {} sequences at a time{}, experts {} tokens at a time",
                              sizes.pass_tokens, sizes.sequences, sizes.attention_micro_batch, waves, sizes.expert_micro_batch));
  const std::string on_device =
      gpu ? fmt::format(", {} of them in HBM; {:.0f} % of attention over the others on the CPU", gpu->device_pages, 100 * gpu->cpu_attention_share)
          : "";
  lines.push_back(fmt::format("KV: {} pages of {} tokens ({} each), context {}{}{}", kv_pages, sizes.page_tokens, format_bytes(kv.page_bytes),
                              max_model_len, describe_groups(kv.groups), on_device));
  if (weights.slots > 0) lines.push_back(describe_streaming(weights));
  if (device && device->weights.slots > 0) lines.push_back(describe_streaming(device->weights, "host memory"));
  if (gpu && gpu->cpu_experts.any()) lines.push_back(describe_cpu_experts(gpu->cpu_experts));
  if (gpu && !device && gpu->host_weights + gpu->storage_weights > 0) {
    lines.push_back(fmt::format("streaming: up to {} a pass come from DRAM, {} from storage", format_bytes(static_cast<uint64_t>(gpu->host_weights)),
                                format_bytes(static_cast<uint64_t>(gpu->storage_weights))));
  }
  return lines;
}

}  // namespace moegen
