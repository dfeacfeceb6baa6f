
#include "api/model.h"
#include "api/plan_report.h"
#include "base/error.h"
#include "base/trace.h"
#include "engine/sampler.h"
#include "moegen/plan.h"
#include "plan/machine_file.h"

namespace moegen {
namespace {

// The same search with a GiB more of everything that is counted.
std::optional<Decision> with_one_more_gib(const ModelSetup& m, const Workload& workload, std::optional<uint64_t> PlanInput::*part) {
  constexpr uint64_t kGiB = uint64_t{1} << 30;
  PlanInput budget = m.budget;
  budget.host_memory += kGiB;
  if (part != nullptr && !(budget.*part)) return std::nullopt;
  if (part != nullptr) *(budget.*part) += kGiB;
  return choose_plan({budget, &*m.machine, &workload});
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
  const PlanReport report{name_of(engine.model), m.spec, *m.machine, m.machine_origin, engine.workload, *m.decision, std::move(notes)};
  json ? report.print_json(out) : report.print(out);
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
  const PlanReport report{name_of(engine.model), spec, machine, engine.machine_file.string(), engine.workload, decision, {}};
  json ? report.print_json(out) : report.print(out);
}

}  // namespace moegen
