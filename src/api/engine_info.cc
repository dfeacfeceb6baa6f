#include "api/engine_info.h"

#include <fmt/format.h>

#include "api/plan_report.h"
#include "base/error.h"
#include "base/size.h"
#include "simulate/workload.h"

namespace moegen {
namespace {

uint64_t sum_of(const std::vector<std::pair<std::string, uint64_t>>& memory) {
  uint64_t sum = 0;
  for (const auto& [purpose, bytes] : memory) sum += bytes;
  return sum;
}

std::string weights_text(const ModelSetup& m, const EngineOptions& options) {
  const WeightPlan& w = m.plan.weights;
  std::string text = m.checkpoint ? fmt::format("{} of {}", format_bytes(m.budget.weight_bytes), options.model.string())
                                  : fmt::format("{} of random numbers (--load-format dummy)", format_bytes(m.budget.weight_bytes));
  if (m.plan.device) {
    const WeightPlan& d = m.plan.device->weights;
    text += w.slots == 0 ? ": all in memory"
                         : fmt::format(": {} in memory; {} of {} experts come from storage through {} slots of {}", format_bytes(w.resident_bytes),
                                       w.streamed.size(), w.num_units, w.slots, format_bytes(w.slot_bytes));
    if (d.streamed.empty() && w.slots == 0) return text + " and on the GPU";
    return text + fmt::format(", {} on the GPU; {} of {} experts come from memory through {} slots of {}", format_bytes(d.resident_bytes),
                              d.streamed.size(), d.num_units, d.slots, format_bytes(d.slot_bytes));
  }
  if (w.slots == 0) return text + ": all in memory";
  return text + fmt::format(": {} in memory; {} of {} experts, {}, come from storage in every pass, through {} slots of {}",
                            format_bytes(w.resident_bytes), w.streamed.size(), w.num_units, format_bytes(w.streamed_bytes), w.slots,
                            format_bytes(w.slot_bytes));
}

std::string skipped_text(const Binding& binding) {
  std::string text;
  for (const SkippedKind& kind : skipped_kinds(binding))
    text += fmt::format("{}{} tensors, {}{} ({})", text.empty() ? "" : "; ", grouped(static_cast<double>(kind.count)), kind.first,
                        kind.count > 1 ? " and so on" : "", kind.why);
  return text;
}

std::string kv_text(const Plan& plan) {
  return fmt::format("{} in memory: {} pages of {} tokens, {}; a context of {} tokens",
                     format_bytes(static_cast<uint64_t>(plan.kv_pages) * plan.kv.page_bytes), grouped(plan.kv_pages), plan.sizes.page_tokens,
                     name_of(plan.kv.dtype), grouped(static_cast<double>(plan.max_model_len)));
}

std::string plan_text(const ModelSetup& m) {
  const PassSizes& s = m.plan.sizes;
  return fmt::format(
      "passes of up to {} tokens of {} sequences, attention {} sequences at a time, experts {} tokens at a time; {}",
      grouped(static_cast<double>(s.pass_tokens)), grouped(static_cast<double>(s.sequences)), grouped(static_cast<double>(s.attention_micro_batch)),
      grouped(static_cast<double>(s.expert_micro_batch)),
      m.decision
          ? fmt::format("{}the best of {} plans by the machine's rates",
                        m.plan.gpu ? fmt::format("{:.0f} % of attention on the CPU; ", 100 * m.plan.gpu->cpu_attention_share) : "", m.decision->tried)
          : "what is usual, as no rates are known");
}

std::string memory_text(const ModelSetup& m) {
  std::string parts;
  for (const auto& [purpose, bytes] : m.plan.memory) {
    if (bytes > 0) parts += fmt::format("{}{} {}", parts.empty() ? "" : ", ", purpose, format_bytes(bytes));
  }
  return fmt::format("{} of the {} that it may have: {}", format_bytes(sum_of(m.plan.memory)), format_bytes(m.budget.host_memory), parts);
}

std::string time_text(const ModelSetup& m, const EngineOptions& options) {
  const Workload& workload = options.workload;
  if (workload.requests.empty()) {
    return workload.complete ? "nothing to compute: what the input asks for is answered already, or will be refused"
                             : "not known: what the input holds is not known before it is read";
  }
  const std::string what =
      fmt::format("{} requests, {} prompt tokens and at most {} of answers", grouped(static_cast<double>(workload.requests.size())),
                  grouped(static_cast<double>(prompt_tokens(workload))), grouped(static_cast<double>(output_tokens(workload))));
  if (!m.decision && m.gpu) return fmt::format("not known for about {}: no rates of the GPU and its link are known; --machine FILE gives them", what);
  if (!m.decision)
    return fmt::format("not known for about {}: this machine's rates are not measured; moegen bench machine -m {} does it, once", what,
                       options.model.string());
  const std::string fails = m.decision->best.job.failed > 0 ? "; " + fails_words(m.decision->best) : "";
  return fmt::format("at most about {} for about {}; bounded by {}{}", duration(m.decision->best.job.seconds), what,
                     bottleneck_words(m.decision->best), fails);
}

}  // namespace

std::string model_name(const std::filesystem::path& model) { return std::filesystem::weakly_canonical(model).filename().string(); }

EngineInfo engine_info(const ModelSetup& m, const EngineOptions& options) {
  EngineInfo info;
  info.model_name = model_name(options.model);
  info.family = m.spec.family;
  info.dtype = m.act == DType::bf16 ? "bfloat16" : "float32";
  info.cpu_path = m.kernels.name;
  info.device = m.gpu ? m.gpu->device->name() : "cpu";
  info.vocab_size = m.spec.vocab;
  info.max_model_len = m.plan.max_model_len;
  info.num_layers = static_cast<int>(m.spec.layers.size());
  info.threads = m.pool.size();
  info.answer_memory = m.plan.answer_bytes;
  info.host_memory = m.budget.host_memory;
  info.planned_memory = sum_of(m.plan.memory);
  info.pass_tokens = m.plan.sizes.pass_tokens;
  info.sequences = m.plan.sizes.sequences;
  if (m.decision) {
    info.predicted_seconds = m.decision->best.job.seconds;
    info.bottleneck = bottleneck_words(m.decision->best);
  }
  info.screen = {{"model", fmt::format("{}: {}, {}, {} threads, {}", info.model_name, info.family, info.dtype, info.threads,
                                       m.gpu ? info.device : info.cpu_path + " kernels")},
                 {"weights", weights_text(m, options)},
                 {"KV", kv_text(m.plan)},
                 {"plan", plan_text(m)},
                 {"memory", memory_text(m)},
                 {"time", time_text(m, options)}};
  if (!m.binding.skipped.empty()) info.screen.insert(info.screen.begin() + 2, {"skipped", skipped_text(m.binding)});
  for (auto& [label, text] : info.screen) text = without_controls(std::move(text));  // the name of a directory may have any
  return info;
}

}  // namespace moegen
