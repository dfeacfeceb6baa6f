#include "api/plan_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/size.h"
#include "simulate/workload.h"

namespace moegen {
namespace {

using Json = nlohmann::ordered_json;

// "1,234,567"
std::string grouped(double number) {
  const std::string digits = fmt::format("{:.0f}", number);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

double per_second(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

// What the job waits for most of all.
std::string bottleneck(const PassCost& sum) {
  if (sum.storage > sum.cpu) return "ssd";
  return sum.dram > sum.flops ? "dram" : "cpu";
}

std::string in_words(const std::string& bottleneck) {
  if (bottleneck == "ssd") return "the storage: weights come slower than the cores use them";
  if (bottleneck == "dram") return "DRAM: weights and K and V are read for few tokens at a time";
  return "the cores: more memory would not make it faster";
}

Json by_resource(const PassCost& cost) {
  return {{"link", nullptr}, {"dram", cost.dram}, {"ssd", cost.storage}, {"cpu", cost.cpu}, {"gpu", nullptr}};
}

}  // namespace

std::string duration(double seconds) {
  if (seconds < 120) return fmt::format("{:.{}f} s", seconds, seconds < 10 ? 2 : 1);
  const auto minutes = static_cast<int64_t>(seconds / 60);
  if (minutes < 120) return fmt::format("{} min {} s", minutes, static_cast<int64_t>(seconds) % 60);
  if (minutes < 48 * 60) return fmt::format("{} h {} min", minutes / 60, minutes % 60);
  return fmt::format("{:.1f} days", seconds / 86400);
}

std::string size_words(const Plan& plan) {
  std::string text = fmt::format("passes of {} tokens, {} sequences in flight", grouped(static_cast<double>(plan.sizes.pass_tokens)),
                                 grouped(static_cast<double>(plan.sizes.sequences)));
  if (plan.weights.slots > 0) text += fmt::format(", weights {} in {} slots", format_bytes(plan.weights.bytes()), plan.weights.slots);
  return text;
}

void PlanReport::print_json(std::ostream& out) const {
  const Plan& plan = decision.best.plan;
  const JobCost& job = decision.best.job;
  PassCost mean;
  mean.add(job.sum, 1 / static_cast<double>(std::max<int64_t>(1, job.passes)));
  Json memory = Json::object();
  for (const auto& [purpose, bytes] : plan.memory) memory[purpose] = bytes;
  const double decode_seconds = job.seconds - job.prompt_seconds;
  const Json json = {{"model", model},
                     {"machine", machine.name},
                     {"workload",
                      {{"name", workload.name},
                       {"requests", workload.requests.size()},
                       {"prompt_tokens", prompt_tokens(workload)},
                       {"output_tokens", output_tokens(workload)}}},
                     {"sizes",
                      {{"pass_tokens", plan.sizes.pass_tokens},
                       {"sequences", plan.sizes.sequences},
                       {"wave_tokens", plan.sizes.wave_tokens},
                       {"attention_micro_batch", plan.sizes.attention_micro_batch},
                       {"expert_micro_batch", plan.sizes.expert_micro_batch},
                       {"slots", plan.weights.slots},
                       {"slot_bytes", plan.weights.slot_bytes},
                       {"kv_pages", plan.kv_pages},
                       {"page_tokens", plan.sizes.page_tokens},
                       {"cpu_attention_share", 1}}},
                     {"placement",
                      {{"weights", {{"dram", plan.weights.resident_bytes}, {"ssd", plan.weights.streamed_bytes}}},
                       {"kv", {{"dram", static_cast<uint64_t>(plan.kv_pages) * plan.kv.page_bytes}}}}},
                     {"pass", {{"seconds", mean.seconds}, {"by_resource", by_resource(mean)}, {"bottleneck", bottleneck(job.sum)}}},
                     {"job",
                      {{"seconds", job.seconds},
                       {"passes", job.passes},
                       {"prefill_seconds", job.prompt_seconds},
                       {"decode_seconds", decode_seconds},
                       {"prefill_tokens_per_second", per_second(static_cast<double>(job.prompt_tokens), job.prompt_seconds)},
                       {"decode_tokens_per_second", per_second(static_cast<double>(job.generated_tokens), decode_seconds)},
                       {"tail_seconds", job.tail_seconds},
                       {"preemptions", job.preemptions},
                       {"by_resource", by_resource(job.sum)}}},
                     {"memory", {{"dram", memory}}},
                     {"notes", notes}};
  out << json.dump(2) << "\n";
}

void PlanReport::print(std::ostream& out) const {
  const Plan& plan = decision.best.plan;
  const JobCost& job = decision.best.job;
  const auto line = [&out](std::string_view name, const std::string& text) { out << fmt::format("{:<12}{}\n", name, text); };
  line("model", fmt::format("{}: {}", model, spec.family));
  line("machine", fmt::format("{} ({})", machine.name, machine_origin));
  line("workload",
       fmt::format("{}: {} requests, {} prompt and {} output tokens", workload.name, grouped(static_cast<double>(workload.requests.size())),
                   grouped(static_cast<double>(prompt_tokens(workload))), grouped(static_cast<double>(output_tokens(workload)))));
  out << "\n";
  for (const std::string& text : plan.describe()) {
    const size_t colon = text.find(':');
    line(text.substr(0, colon), text.substr(std::min(text.size(), colon + 2)));
  }
  out << "\n";
  const double passes = static_cast<double>(std::max<int64_t>(1, job.passes));
  const PassCost& sum = job.sum;
  line("a pass", fmt::format("{} on the average of {} passes", duration(sum.seconds / passes), grouped(passes)));
  const auto share = [&](const char* name, double seconds, const char* what) {
    if (seconds > 0) line("", fmt::format("{:<10}{:>10}{:>6.1f} %  {}", name, duration(seconds / passes), 100 * seconds / sum.seconds, what));
  };
  share("cores", sum.cpu, "compute");
  share("  experts", sum.experts, "");
  share("  attention", sum.attention, "over K and V");
  share("  linear", sum.projections, "projections, router");
  share("  logits", sum.logits, "and sampling");
  share("  rows", sum.rows, "norms, rope, routing, sums");
  share("SSD", sum.storage, "reads");
  share("waiting", sum.wait, "cores wait for it");
  share("DRAM", sum.dram, "would take alone for the bytes that it gives");
  line("bottleneck", in_words(bottleneck(sum)));
  line("the job",
       fmt::format("{}: {} prompt and {} generated tokens/s; {:.1f} % of it in the tail{}", duration(job.seconds),
                   grouped(per_second(static_cast<double>(job.prompt_tokens), job.seconds)),
                   grouped(per_second(static_cast<double>(job.generated_tokens), job.seconds)), 100 * job.tail_seconds / std::max(1e-9, job.seconds),
                   job.preemptions > 0 ? fmt::format("; {} preemptions", job.preemptions) : ""));
  if (decision.next) {
    const PlannedJob& next = *decision.next;
    line("next best", fmt::format("{}: {} ({:+.1f} %), of {} plans", size_words(next.plan), duration(next.job.seconds),
                                  100 * (next.job.seconds / job.seconds - 1), decision.tried));
  }
  for (const std::string& note : notes) line("", note);
}

}  // namespace moegen
