#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "api/model.h"
#include "base/error.h"
#include "base/size.h"
#include "base/trace.h"
#include "engine/sampler.h"
#include "moegen/plan.h"
#include "plan/machine_file.h"

namespace moegen {
namespace {

using Json = nlohmann::ordered_json;

// A decision, and what it is about.
struct Subject {
  std::string model;
  const ModelSpec& spec;
  const Machine& machine;
  const Workload& workload;
  const Decision& decision;
  std::string machine_origin;
};

std::string duration(double seconds) {
  if (seconds < 120) return fmt::format("{:.{}f} s", seconds, seconds < 10 ? 2 : 1);
  const auto minutes = static_cast<int64_t>(seconds / 60);
  if (minutes < 120) return fmt::format("{} min {} s", minutes, static_cast<int64_t>(seconds) % 60);
  if (minutes < 48 * 60) return fmt::format("{} h {} min", minutes / 60, minutes % 60);
  return fmt::format("{:.1f} days", seconds / 86400);
}

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

std::string size_words(const Plan& plan) {
  std::string text = fmt::format("passes of {} tokens, {} sequences in flight", grouped(static_cast<double>(plan.sizes.pass_tokens)),
                                 grouped(static_cast<double>(plan.sizes.sequences)));
  if (plan.weights.slots > 0) text += fmt::format(", weights {} in {} slots", format_bytes(plan.weights.bytes()), plan.weights.slots);
  return text;
}

// The same search with a GiB more of everything that is counted.
std::optional<Decision> with_one_more_gib(const ModelSetup& m, const Workload& workload, std::optional<uint64_t> PlanInput::*part) {
  constexpr uint64_t kGiB = uint64_t{1} << 30;
  PlanInput budget = m.budget;
  budget.host_memory += kGiB;
  if (part != nullptr && !(budget.*part)) return std::nullopt;
  if (part != nullptr) *(budget.*part) += kGiB;
  return choose_plan({budget, &*m.machine, &workload});
}

Json by_resource(const PassCost& cost) {
  return {{"link", nullptr}, {"dram", cost.dram}, {"ssd", cost.storage}, {"cpu", cost.cpu}, {"gpu", nullptr}};
}

Json to_json(const Subject& s, const std::vector<std::string>& notes) {
  const Plan& plan = s.decision.best.plan;
  const JobCost& job = s.decision.best.job;
  PassCost mean;
  mean.add(job.sum, 1 / static_cast<double>(std::max<int64_t>(1, job.passes)));
  Json memory = Json::object();
  for (const auto& [purpose, bytes] : plan.memory) memory[purpose] = bytes;
  const double decode_seconds = job.seconds - job.prompt_seconds;
  return {{"model", s.model},
          {"machine", s.machine.name},
          {"workload",
           {{"name", s.workload.name},
            {"requests", s.workload.requests.size()},
            {"prompt_tokens", prompt_tokens(s.workload)},
            {"output_tokens", output_tokens(s.workload)}}},
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
}

void print(const Subject& s, const std::vector<std::string>& notes, std::ostream& out) {
  const Plan& plan = s.decision.best.plan;
  const JobCost& job = s.decision.best.job;
  const auto line = [&out](std::string_view name, const std::string& text) { out << fmt::format("{:<12}{}\n", name, text); };
  line("model", fmt::format("{}: {}", s.model, s.spec.family));
  line("machine", fmt::format("{} ({})", s.machine.name, s.machine_origin));
  line("workload",
       fmt::format("{}: {} requests, {} prompt and {} output tokens", s.workload.name, grouped(static_cast<double>(s.workload.requests.size())),
                   grouped(static_cast<double>(prompt_tokens(s.workload))), grouped(static_cast<double>(output_tokens(s.workload)))));
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
  if (s.decision.next) {
    const PlannedJob& next = *s.decision.next;
    line("next best", fmt::format("{}: {} ({:+.1f} %), of {} plans", size_words(next.plan), duration(next.job.seconds),
                                  100 * (next.job.seconds / job.seconds - 1), s.decision.tried));
  }
  for (const std::string& note : notes) line("", note);
}

// The first passes: what the cores do one after the other, and the storage beside them.
void trace_job(const PassCosts& costs, const Plan& plan, const EngineOptions& engine) {
  constexpr int64_t kPasses = 1000;
  Trace trace(engine.trace_file);
  int64_t pass = 0;
  static_cast<void>(simulate_job(plan, costs, engine.workload, [&](double begin, const PassLoad&, const PassCost& cost) {
    if (++pass > kPasses) return;
    double at = begin;
    const auto add = [&](const char* name, double seconds) {
      if (seconds > 0) trace.add_compute(name, -1, -1, trace.after(at), trace.after(at + seconds));
      at += seconds;
    };
    add("rows", cost.rows);
    add("projections", cost.projections);
    add("attention", cost.attention);
    add("experts", cost.experts);
    add("wait for weights", cost.wait);
    add("logits", cost.logits);
    if (cost.storage > 0) trace.add_read(pass, -1, -1, static_cast<uint64_t>(cost.bytes_read), trace.after(begin), trace.after(begin + cost.storage));
  }));
}

std::string more_memory(const char* what, const Decision& now, const Decision& then) {
  const double change = 100 * (then.best.job.seconds / now.best.job.seconds - 1);
  return fmt::format("one more GiB {}: {} ({:+.1f} %), {}", what, duration(then.best.job.seconds), change, size_words(then.best.plan));
}

std::string name_of(const std::filesystem::path& model) { return std::filesystem::weakly_canonical(model).filename().string(); }

void show(const Subject& subject, const std::vector<std::string>& notes, bool json, std::ostream& out) {
  if (json) {
    out << to_json(subject, notes).dump(2) << "\n";
  } else {
    print(subject, notes, out);
  }
}

}  // namespace

void show_plan(const EngineOptions& engine, bool json, std::ostream& out) {
  const ModelSetup m(engine);
  if (!m.machine) {
    throw_error(ErrorCode::not_found, "no rates of this machine are known: measure them with moegen bench machine -m {}, or give --machine FILE",
                engine.model.string());
  }
  if (!m.decision)
    throw_error(ErrorCode::invalid_argument, "a plan is made for a workload: give --input, --lengths, or --num-requests with its lengths");
  std::vector<std::string> notes;
  if (const auto more = with_one_more_gib(m, engine.workload, nullptr)) notes.push_back(more_memory("of host memory", *m.decision, *more));
  if (const auto more = with_one_more_gib(m, engine.workload, &PlanInput::weight_memory))
    notes.push_back(more_memory("for weights", *m.decision, *more));
  if (const auto more = with_one_more_gib(m, engine.workload, &PlanInput::kv_memory))
    notes.push_back(more_memory("for KV pages", *m.decision, *more));
  show({name_of(engine.model), m.spec, *m.machine, engine.workload, *m.decision, m.machine_origin}, notes, json, out);
}

void show_simulation(const EngineOptions& engine, bool json, std::ostream& out) {
  const Machine machine = load_machine(engine.machine_file);
  if (machine.gpu)
    throw_error(ErrorCode::unsupported, "{}: has a GPU, which this version does not simulate: set gpu to null", engine.machine_file.string());
  const ModelSpec spec = load_spec(engine.model);
  const auto table = tensor_table(spec);
  const auto units = weight_units(table, spec.dtype);
  const DType act = spec.dtype == DType::f32 || engine.dtype == "float32" ? DType::f32 : DType::bf16;
  constexpr uint64_t kProcessBytes = 64 << 20;
  PlanInput budget;
  set_sizes(budget, engine);
  budget.spec = &spec;
  budget.act = act;
  budget.kv_dtype = engine.kv_dtype == "int8" ? DType::i8 : act;
  budget.weight_bytes = WeightStore::bytes_needed(table, spec.dtype);
  budget.units = units;
  budget.threads = machine.cpu.cores;
  budget.process_bytes = kProcessBytes + Sampler::bytes_needed(spec.vocab, machine.cpu.cores);
  budget.host_memory = engine.host_memory.value_or(machine.dram.bytes / 5 * 4);
  const Decision decision = choose_plan({budget, &machine, &engine.workload});
  if (!engine.trace_file.empty()) {
    trace_job({spec, machine, decision.best.plan, units}, decision.best.plan, engine);
  }
  show({name_of(engine.model), spec, machine, engine.workload, decision, engine.machine_file.string()}, {}, json, out);
}

}  // namespace moegen
