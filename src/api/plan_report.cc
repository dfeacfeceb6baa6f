#include "api/plan_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/size.h"
#include "simulate/workload.h"

namespace moegen {

namespace {

using Json = nlohmann::ordered_json;

double per_second(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

constexpr double kMostly = 0.7;  // of their time the cores would need for DRAM alone

// The resource that a job waits for most of all: the one that is busy for longest. Cores are busy while they wait for DRAM.
std::string bottleneck(const PassCost& sum) {
  if (sum.gpu > 0) {
    const std::pair<double, const char*> busy[] = {{sum.link, "link"}, {sum.storage, "ssd"}, {sum.dram, "dram"}, {sum.cpu, "cpu"}, {sum.gpu, "gpu"}};
    return std::max_element(std::begin(busy), std::end(busy))->second;
  }
  if (sum.storage > sum.cpu) return "ssd";
  return sum.dram > kMostly * sum.cpu ? "dram" : "cpu";
}

std::string in_words(const std::string& bottleneck, bool gpu) {
  if (bottleneck == "link") return "the link: weights and K and V come slower than the GPU uses them";
  if (bottleneck == "gpu") return "the GPU: it computes for most of the time";
  if (bottleneck == "ssd") return "the storage: weights come slower than they are used";
  if (gpu) return bottleneck == "dram" ? "DRAM: copies and the CPU read it" : "the CPU: its share of attention and experts";
  if (bottleneck == "dram") return "DRAM: weights and K and V are read for few tokens at a time";
  return "the cores: they compute for most of the time";
}

Json by_resource(const PassCost& cost) {
  const auto of_gpu = [&](double seconds) { return cost.gpu > 0 ? Json(seconds) : Json(nullptr); };
  return {{"link", of_gpu(cost.link)}, {"dram", cost.dram}, {"ssd", cost.storage}, {"cpu", cost.cpu}, {"gpu", of_gpu(cost.gpu)}};
}

Json bytes_of_purposes(const std::vector<std::pair<std::string, uint64_t>>& memory) {
  Json out = Json::object();
  for (const auto& [purpose, bytes] : memory) out[purpose] = bytes;
  return out;
}

// Bytes of weights and of KV by tier.
Json placement(const Plan& plan) {
  const uint64_t page = plan.kv.page_bytes;
  const auto pages = static_cast<uint64_t>(plan.kv_pages);
  if (!plan.gpu) {
    return {{"weights", {{"dram", plan.weights.resident_bytes}, {"ssd", plan.weights.streamed_bytes}}}, {"kv", {{"dram", pages * page}}}};
  }
  const auto whole = [](double bytes) { return static_cast<uint64_t>(bytes); };
  const auto on_device = static_cast<uint64_t>(plan.gpu->device_pages);
  return {{"weights", {{"hbm", whole(plan.gpu->device_weights)}, {"dram", whole(plan.gpu->host_weights)}, {"ssd", whole(plan.gpu->storage_weights)}}},
          {"kv", {{"hbm", on_device * page}, {"dram", (pages - on_device) * page}}}};
}

Json sizes_of(const Plan& plan) {
  const WeightPlan& ring = plan.device ? plan.device->weights : plan.weights;
  return {{"pass_tokens", plan.sizes.pass_tokens},
          {"sequences", plan.sizes.sequences},
          {"wave_tokens", plan.sizes.wave_tokens},
          {"attention_micro_batch", plan.sizes.attention_micro_batch},
          {"expert_micro_batch", plan.sizes.expert_micro_batch},
          {"slots", ring.slots},
          {"slot_bytes", ring.slot_bytes},
          {"kv_pages", plan.kv_pages},
          {"page_tokens", plan.sizes.page_tokens},
          {"page_groups", plan.kv.num_groups()},
          {"cpu_attention_share", plan.gpu ? plan.gpu->cpu_attention_share : 1},
          {"cpu_expert_tokens", plan.gpu ? Json(plan.gpu->cpu_experts.most_tokens) : Json(nullptr)}};
}

Json memory_by_tier(const Plan& plan) {
  Json out = {{"dram", bytes_of_purposes(plan.memory)}};
  if (plan.gpu) out["hbm"] = bytes_of_purposes(plan.gpu->memory);
  return out;
}

}  // namespace

std::string grouped(double number) {
  const std::string digits = fmt::format("{:.0f}", number);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string bottleneck_words(const PlannedJob& job) { return in_words(bottleneck(job.job.sum), job.plan.gpu.has_value()); }

std::string fails_words(const PlannedJob& job) {
  const Plan& plan = job.plan;
  return fmt::format("{} requests fail: a context of {} tokens and KV pages for {} are too small for them",
                     grouped(static_cast<double>(job.job.failed)), plan.max_model_len,
                     std::min(plan.max_model_len, longest_held(plan.kv.groups, plan.sizes.page_tokens, plan.kv_pages)));
}

std::string duration(double seconds) {
  if (seconds > 0 && seconds < 0.1) return fmt::format("{:.3g} ms", 1e3 * seconds);
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
  if (plan.gpu) {
    text += fmt::format(", weights {} in HBM, {} in DRAM", format_bytes(static_cast<uint64_t>(plan.gpu->device_weights)),
                        format_bytes(static_cast<uint64_t>(plan.gpu->host_weights)));
    if (plan.gpu->cpu_attention_share > 0) text += fmt::format(", {:.0f} % of attention on the CPU", 100 * plan.gpu->cpu_attention_share);
  }
  return text;
}

void PlanReport::print_json(std::ostream& out) const {
  const Plan& plan = decision.best.plan;
  const JobCost& job = decision.best.job;
  PassCost mean;
  mean.add(job.sum, 1 / static_cast<double>(std::max<int64_t>(1, job.passes)));
  const double decode_seconds = std::max(0.0, job.seconds - job.prompt_seconds);
  const Json json = {
      {"model", model},
      {"machine", machine.name},
      {"workload",
       {{"name", workload.name},
        {"requests", workload.requests.size()},
        {"prompt_tokens", prompt_tokens(workload)},
        {"output_tokens", output_tokens(workload)}}},
      {"sizes", sizes_of(plan)},
      {"placement", placement(plan)},
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
        {"recomputed", job.recomputed},
        {"swap_seconds", job.swap_seconds},
        {"failed", job.failed},
        {"by_resource", by_resource(job.sum)}}},
      {"next_best", decision.next ? Json{{"seconds", decision.next->job.seconds}, {"sizes", sizes_of(decision.next->plan)}} : Json(nullptr)},
      {"memory", memory_by_tier(plan)},
      {"notes", notes}};
  out << json.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";  // names of files are any bytes
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
  if (job.passes > 0) line("a pass", fmt::format("{} on the average of {} passes", duration(sum.seconds / passes), grouped(passes)));
  const auto share = [&](const char* name, double seconds, const char* what) {
    if (seconds > 0) line("", fmt::format("{:<10}{:>10}{:>6.1f} %  {}", name, duration(seconds / passes), 100 * seconds / sum.seconds, what));
  };
  share(plan.gpu ? "GPU" : "cores", plan.gpu ? sum.gpu : sum.cpu, "compute");
  share("  experts", sum.experts, "");
  share("  attention", sum.attention, "over K and V");
  share("  linear", sum.projections, "projections, router");
  share("  logits", sum.logits, "and sampling");
  share("  rows", sum.rows, "norms, rope, routing, sums");
  if (plan.gpu) share("CPU", sum.cpu, "its share of attention and experts");
  share("link", sum.link, "copies");
  share("SSD", sum.storage, "reads");
  share("waiting", sum.wait, plan.gpu ? "the GPU waits for them" : "cores wait for it");
  share("DRAM", sum.dram, "would take alone for the bytes that it gives");
  if (job.generated_tokens > 0) line("bottleneck", bottleneck_words(decision.best));
  line("the job",
       fmt::format("{}: {} prompt and {} generated tokens/s; {:.1f} % of it in the tail{}", duration(job.seconds),
                   grouped(per_second(static_cast<double>(job.prompt_tokens), job.seconds)),
                   grouped(per_second(static_cast<double>(job.generated_tokens), job.seconds)), 100 * job.tail_seconds / std::max(1e-9, job.seconds),
                   job.preemptions > 0 ? fmt::format("; {} preemptions, {} of them computed again, {} for the disk that keeps the others",
                                                     job.preemptions, job.recomputed, duration(job.swap_seconds))
                                       : ""));
  if (job.failed > 0) line("", fails_words(decision.best));
  if (decision.next && job.seconds > 0) {
    const PlannedJob& next = *decision.next;
    line("next best", fmt::format("{}: {} ({:+.1f} %), of {} plans", size_words(next.plan), duration(next.job.seconds),
                                  100 * (next.job.seconds / job.seconds - 1), decision.tried));
  }
  for (const std::string& note : notes) line("", note);
}

}  // namespace moegen
