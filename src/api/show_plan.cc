#include <algorithm>

#include "api/model.h"
#include "api/plan_report.h"
#include "base/error.h"
#include "base/size.h"
#include "base/trace.h"
#include "engine/sampler.h"
#include "moegen/engine.h"
#include "moegen/plan.h"
#include "plan/gpu_pass_cost.h"
#include "plan/machine_file.h"

namespace moegen {
namespace {

constexpr int64_t kTracedPasses = 50;  // layer by layer

// The first passes on a CPU: what the cores do one after the other, and the storage beside them.
void trace_passes(const PassCosts& costs, const Plan& plan, const EngineOptions& engine) {
  Trace trace(engine.trace_file);
  int64_t pass = 0;
  int64_t reads = 0;
  const auto look = [&](double begin, const PassLoad& load, const PassCost& cost) {
    const double read_seconds = cost.bytes_read > 0 ? cost.storage / cost.bytes_read : 0;  // a byte
    double at = begin;
    double read_at = begin;
    double rows = cost.rows;  // those of no layer
    const auto add = [&](const char* name, int64_t layer, double seconds) {
      if (seconds > 0) trace.add_compute(name, layer, -1, trace.after(at), trace.after(at + seconds));
      at += seconds;
    };
    static_cast<void>(costs.of(load, [&](int64_t layer, const PassCost& of) {
      const double read = of.bytes_read * read_seconds;
      if (read > 0) trace.add_read(reads++, layer, -1, static_cast<uint64_t>(of.bytes_read), trace.after(read_at), trace.after(read_at + read));
      read_at += read;
      rows -= of.rows;
      add("projections", layer, of.projections + of.rows);
      add("attention", layer, of.attention);
      add("wait for weights", layer, of.wait);
      add("experts", layer, of.experts);
    }));
    add("logits", -1, cost.logits);
    add("rows", -1, rows);
    return ++pass < kTracedPasses;
  };
  static_cast<void>(simulate_job(
      plan, [&](const PassLoad& load) { return costs.of(load); }, engine.workload, look));
}

// The first passes with a GPU: every task of every layer on its resource.
void trace_passes(const GpuPassCosts& costs, const Plan& plan, const EngineOptions& engine) {
  constexpr const char* kResources[] = {"GPU", "CPU", "host to device", "device to host", "storage"};
  Trace trace(engine.trace_file);
  int64_t pass = 0;
  const auto look = [&](double begin, const PassLoad& load, const PassCost&) {
    static_cast<void>(costs.of(load, [&](const PassTask& t) {
      const auto resource = static_cast<size_t>(t.resource);
      trace.add_task(static_cast<int>(resource), kResources[resource], t.name, t.layer, static_cast<uint64_t>(t.bytes),
                     trace.after(std::max(0.0, begin + t.begin)), trace.after(std::max(0.0, begin + t.end)));  // some belong to a pass before
    }));
    return ++pass < kTracedPasses;
  };
  const CostOf cost = [&](const PassLoad& load) { return costs.of(load); };
  if (plan.gpu->static_batches)
    static_cast<void>(simulate_static_batches(plan, cost, engine.workload, look));
  else
    static_cast<void>(simulate_job(plan, cost, engine.workload, look));
}

// What the same search finds with a GiB more of each memory that there is a budget for, and with K and V in int8.
std::vector<std::string> what_would_change(const ModelSetup& m, const Workload& workload) {
  constexpr uint64_t kGiB = uint64_t{1} << 30;
  const PlanInput& budget = m.budget;
  const PlannedJob& now = m.decision->best;
  std::vector<std::string> notes;
  const auto add = [&](const std::string& what, const PlanInput& other) {
    const PlannedJob then = choose_plan({other, &*m.machine, &workload}).best;
    const double change = now.job.seconds > 0 ? 100 * (then.job.seconds / now.job.seconds - 1) : 0;
    notes.push_back(fmt::format("{}: {} ({:+.1f} %), {}", what, duration(then.job.seconds), change, size_words(then.plan)));
    if (then.job.failed != now.job.failed) notes.back() += fmt::format("; {} requests fail", then.job.failed);
  };
  PlanInput more = budget;
  more.host_memory += kGiB;
  add("one more GiB of host memory", more);
  for (const auto& [part, what] : {std::pair(&PlanInput::weight_memory, "for weights"), std::pair(&PlanInput::kv_memory, "for KV pages")}) {
    if (!(budget.*part)) continue;
    PlanInput with = more;
    *(with.*part) += kGiB;
    add(fmt::format("one more GiB {}", what), with);
  }
  if (budget.gpu) {
    PlanInput with = budget;
    with.gpu->device_memory += kGiB;
    DeviceBudget device = *budget.device;
    device.memory += kGiB;
    with.device = &device;
    add("one more GiB of HBM", with);
  }
  if (m.kv_dtype != DType::i8 && can_keep_int8(m.spec)) {
    PlanInput with = budget;
    with.kv_dtype = DType::i8;
    ModelWork work = model_work(m.spec, m.binding.table, m.spec.dtype, DType::i8);
    if (budget.gpu) work.scale_weights(static_cast<double>(budget.device->weight_bytes));
    with.work = &work;
    add("--kv-dtype int8, other tokens", with);
  }
  return notes;
}

void check_workload(const Workload& workload, const char* what) {
  if (!workload.requests.empty()) return;
  throw_error(ErrorCode::invalid_argument, "{} for a workload: give {}", what,
              workload.name.empty() ? "--input, --lengths, or --num-requests with its lengths"
                                    : "requests that can be answered; " + workload.name + " has none");
}

}  // namespace

void show_plan(const EngineOptions& engine, bool json, std::ostream& out) {
  if (!engine.trace_file.empty())
    throw_error(ErrorCode::invalid_argument, "--trace: a plan has no timeline; moegen simulate and run-batch write one");
  check_workload(engine.workload, "a plan is made");  // before this machine is measured
  const ModelSetup m(engine);
  if (!m.machine && m.gpu) throw_error(ErrorCode::not_found, "no rates of this GPU and its link are known: give --machine FILE");
  if (!m.machine) {
    throw_error(ErrorCode::not_found, "no rates of this machine are known: measure them with moegen bench machine -m {}, or give --machine FILE",
                engine.model.string());
  }
  std::vector<std::string> notes = what_would_change(m, engine.workload);
  if (m.machine->gpu && !m.gpu)
    notes.push_back(
        fmt::format("{} has a GPU, which this plan leaves out: --device cuda, or moegen simulate for a machine that is not here", m.machine_origin));
  const PlanReport report{model_name(engine.model), m.spec, *m.machine, m.machine_origin, engine.workload, *m.decision, notes};
  json ? report.print_json(out) : report.print(out);
}

void show_simulation(const EngineOptions& engine, bool static_batches, bool json, std::ostream& out) {
  const Machine machine = load_machine(engine.machine_file);
  for (const auto& [given, option] :
       {std::pair(static_batches, "--policy static"), std::pair(engine.cpu_attention_share.has_value(), "--cpu-attention-share"),
        std::pair(engine.device_memory.has_value(), "--device-memory")}) {
    if (given && !machine.gpu)
      throw_error(ErrorCode::invalid_argument, "{} is for machines with a GPU, which {} has not", option, engine.machine_file.string());
  }
  if (static_batches && engine.weight_memory)
    throw_error(ErrorCode::invalid_argument, "--weight-memory is not for --policy static: the published system has all weights in DRAM");
  for (const auto& [given, option] :
       {std::pair(engine.attention_micro_batch.has_value(), "--attention-micro-batch"),
        std::pair(engine.expert_micro_batch.has_value(), "--expert-micro-batch"), std::pair(engine.weight_slots.has_value(), "--weight-slots")}) {
    if (given && machine.gpu)
      throw_error(ErrorCode::invalid_argument, "{} is for machines without a GPU: on that of {} it is not simulated", option,
                  engine.machine_file.string());
  }
  const EngineOptions usual;
  for (const auto& [given, option] :
       {std::pair(engine.device != usual.device, "--device"), std::pair(engine.cpu_path != usual.cpu_path, "--cpu-path"),
        std::pair(engine.load_format != usual.load_format, "--load-format"), std::pair(engine.threads != usual.threads, "--threads"),
        std::pair(engine.cpu_expert_tokens.has_value(), "--cpu-expert-tokens")}) {
    if (given)
      throw_error(ErrorCode::invalid_argument, "{} is for runs: what is simulated is the machine of {}", option, engine.machine_file.string());
  }
  check_workload(engine.workload, "a job is simulated");
  const ModelSpec spec = load_spec(engine.model, engine.max_model_len);
  const auto table = tensor_table(spec);
  const auto units = weight_units(table, spec.dtype);
  const DType act = choose_act(engine, spec);
  constexpr uint64_t kProcessBytes = 64 << 20;
  PlanInput budget;
  set_sizes(budget, engine);
  budget.spec = &spec;
  budget.act = act;
  budget.kv_dtype = choose_kv_dtype(engine, act, spec);
  budget.weight_bytes = WeightStore::bytes_needed(table, spec.dtype, act);
  if (machine.ssd && budget.weight_bytes <= machine.ssd->bytes) budget.units = units;
  if (const uint64_t most = machine.ssd ? machine.ssd->bytes : 0; engine.swap_space.value_or(0) > most)
    throw_error(ErrorCode::invalid_argument, "--swap-space {}: {} has {} of storage", format_bytes(*engine.swap_space), engine.machine_file.string(),
                format_bytes(most));
  if (swaps(engine) && machine.ssd)
    budget.swap = {engine.swap_space.value_or(machine.ssd->bytes / 2), swap_bandwidth(&machine), engine.swap_space.has_value()};
  budget.threads = machine.cpu.cores;
  budget.process_bytes = kProcessBytes + Sampler::bytes_needed(spec.vocab, machine.cpu.cores);
  budget.host_memory = engine.host_memory.value_or(machine.dram.bytes / 5 * 4);
  if (budget.host_memory > machine.dram.bytes)
    throw_error(ErrorCode::out_of_memory, "--host-memory {}: {} has {} of DRAM", format_bytes(budget.host_memory), engine.machine_file.string(),
                format_bytes(machine.dram.bytes));
  const ModelWork work = model_work(spec, table, spec.dtype, budget.kv_dtype);
  budget.work = &work;
  if (machine.gpu) {
    if (engine.device_memory.value_or(0) > machine.gpu->memory_bytes)
      throw_error(ErrorCode::out_of_memory, "--device-memory {}: the GPU of {} has {}", format_bytes(*engine.device_memory),
                  engine.machine_file.string(), format_bytes(machine.gpu->memory_bytes));
    budget.gpu = {engine.device_memory.value_or(machine.gpu->memory_bytes / 10 * 9),
                  machine.ssd ? machine.ssd->bytes : 0,
                  static_batches,
                  {},
                  engine.cpu_attention_share};
  }
  const Decision decision = choose_plan({budget, &machine, &engine.workload});
  const Plan& plan = decision.best.plan;
  if (!engine.trace_file.empty() && machine.gpu) trace_passes(GpuPassCosts(spec, work, machine, plan), plan, engine);
  if (!engine.trace_file.empty() && !machine.gpu) trace_passes(PassCosts(spec, work, machine, plan, units), plan, engine);
  const PlanReport report{model_name(engine.model), spec, machine, engine.machine_file.string(), engine.workload, decision, {}};
  json ? report.print_json(out) : report.print(out);
}

}  // namespace moegen
