#include "api/model.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "api/engine_info.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/log.h"
#include "base/size.h"
#include "engine/sampler.h"
#include "engine/swap_file.h"
#include "grammar/compiler.h"
#include "memory/mapped_memory.h"
#include "model/latent_attention.h"
#include "moegen/prompt_counter.h"
#include "moegen/version.h"
#include "pipeline/executor.h"
#include "plan/machine_file.h"
#include "profile/machine_profile.h"

namespace moegen {
namespace {

std::optional<OutputFormat> choose_format(const std::string& parser) {
  if (parser == "auto") return std::nullopt;
  const auto format = format_by_name(parser);
  if (!format) throw_error(ErrorCode::invalid_argument, "--parser {}: expected auto, {}", parser, format_names());
  return format;
}

void check_options(const EngineOptions& options) {
  if (options.load_format != "auto" && options.load_format != "dummy") {
    throw_error(ErrorCode::invalid_argument, "--load-format {}: expected auto or dummy", options.load_format);
  }
  if (options.threads < 0 || options.threads > 1024) throw_error(ErrorCode::invalid_argument, "--threads {}: expected 1 to 1024", options.threads);
}

uint64_t resident_bytes() {
  std::ifstream in("/proc/self/statm");
  uint64_t total = 0;
  uint64_t resident = 0;
  in >> total >> resident;
  return resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

Binding bind_or_describe(ModelSetup& m, const EngineOptions& options) {
  if (m.checkpoint) {
    Binding binding = bind(m.spec, *m.checkpoint);
    check_fits(binding, options.model);
    check_orders(binding, *m.checkpoint, m.pool);
    return binding;
  }
  Binding binding;
  binding.table = tensor_table(m.spec);
  return binding;
}

DType dummy_dtype(const ModelSpec& spec) { return spec.dtype == DType::f32 ? DType::f32 : DType::bf16; }

PlanInput budget_of(const ModelSetup& m, const EngineOptions& options) {
  constexpr uint64_t kSlack = 8 << 20;  // stacks, the allocator
  PlanInput in;
  in.spec = &m.spec;
  in.act = m.act;
  in.kv_dtype = m.kv_dtype;
  in.work = &m.work;
  in.weight_bytes =
      m.checkpoint ? WeightStore::bytes_needed(m.binding, m.act) : WeightStore::bytes_needed(m.binding.table, dummy_dtype(m.spec), m.act);
  in.units = m.units;
  // Rounded, so that the least memory that is named holds in the next run too, which takes some pages more or less.
  in.process_bytes = round_up<uint64_t>(resident_bytes(), uint64_t{2} << 20) + Sampler::bytes_needed(m.spec.vocab, m.pool.size()) + kSlack;
  if (m.tokenizer) in.process_bytes += GrammarCompiler::bytes_needed(m.spec.vocab);
  in.host_memory = options.host_memory.value_or(available_host_memory() / 5 * 4);
  set_sizes(in, options);
  in.threads = m.pool.size();
  return in;
}

// From the file that is named, else as they are kept, else measured where that is worth its time and its memory.
void find_rates(ModelSetup& m, const EngineOptions& options) {
  constexpr uint64_t kLeastMemory = uint64_t{1} << 30;
  if (!options.machine_file.empty()) {
    m.machine = load_machine(options.machine_file);
    m.machine_origin = options.machine_file.string();
    if (m.machine->cpu.cores != m.pool.size())
      log_line("{}: rates of {} cores, taken for those of {} threads", m.machine_origin, m.machine->cpu.cores, m.pool.size());
    return;
  }
  ProfileInput in;
  in.spec = &m.spec;
  in.act = m.act;
  in.kv_dtype = m.kv_dtype;
  in.cpu_path = options.cpu_path;
  in.threads = m.pool.size();
  in.directory = options.model;
  in.device = m.gpu ? m.gpu->device.get() : nullptr;
  in.build = version_text().substr(0, version_text().find('\n'));
  std::optional<MachineProfile> profile = kept_profile(in);
  if (!profile && options.measure_from && m.budget.weight_bytes >= *options.measure_from && m.budget.host_memory >= kLeastMemory) {
    log_line("measuring this machine for the model's shapes: about 20 s, once");
    profile = machine_profile(in);
    for (const std::string& warning : profile->warnings) log_line("{}", warning);
  }
  if (!profile) return;
  const std::optional<Machine::Ssd>& ssd = profile->machine.ssd;
  if ((!ssd || !ssd->read_bandwidth) && make_plan(m.budget).weights.slots > 0) {
    log_line("weights stream, and how fast is not known ({}): sizes are chosen without rates", ssd ? ssd->note : "no storage was measured");
    return;
  }
  m.machine = std::move(profile->machine);
  m.machine_origin = std::move(profile->source);
}

// The tensors that stream, beside the binding's table.
std::vector<bool> left_out(const ModelSetup& m) {
  std::vector<bool> out(m.binding.table.size());
  for (const int32_t unit : m.plan.weights.streamed) {
    for (const WeightUnit::Tensor& t : m.units[static_cast<size_t>(unit)].tensors) out[t.table_idx] = true;
  }
  return out;
}

}  // namespace

DType choose_act(const EngineOptions& options, const ModelSpec& spec) {
  if (options.dtype == "bfloat16") return DType::bf16;
  if (options.dtype == "float32") return DType::f32;
  if (options.dtype != "auto") throw_error(ErrorCode::invalid_argument, "--dtype {}: expected auto, bfloat16 or float32", options.dtype);
  return spec.dtype == DType::f32 ? DType::f32 : DType::bf16;
}

bool can_keep_int8(const ModelSpec& spec) {
  return std::none_of(spec.layers.begin(), spec.layers.end(), [](const LayerSpec& layer) { return layer.attention.is_latent(); });
}

DType choose_kv_dtype(const EngineOptions& options, DType act, const ModelSpec& spec) {
  const std::string_view own = act == DType::bf16 ? "bfloat16" : "float32";
  if (options.kv_dtype == "auto" || options.kv_dtype == own) return act;
  if (options.kv_dtype == "int8") {
    if (!can_keep_int8(spec)) throw_error(ErrorCode::unsupported, "--kv-dtype int8: not with latent attention, which keeps little of a token");
    return DType::i8;
  }
  throw_error(ErrorCode::unsupported, "--kv-dtype {}: expected auto, int8, or as this run computes: {}", options.kv_dtype, own);
}

double swap_bandwidth(const Machine* machine) {
  constexpr double kUsual = 1e9;
  return machine != nullptr && machine->ssd ? machine->ssd->read_bandwidth.value_or(kUsual) : kUsual;
}

bool swaps(const EngineOptions& options) { return !options.swap_folder.empty() && options.swap_space != 0; }

void set_sizes(PlanInput& budget, const EngineOptions& options) {
  budget.weight_memory = options.weight_memory;
  budget.kv_memory = options.kv_memory;
  budget.max_model_len = options.max_model_len;
  budget.max_num_seqs = options.max_num_seqs;
  budget.max_pass_tokens = options.max_pass_tokens;
  budget.attention_micro_batch = options.attention_micro_batch;
  budget.expert_micro_batch = options.expert_micro_batch;
  budget.weight_slots = options.weight_slots;
  budget.wanted_context = longest_sequence(options.workload) * 5 / 4;  // lengths are estimates, and a request that does not fit fails
}

ModelSetup::ModelSetup(const EngineOptions& options)
    : spec(load_spec(options.model, options.max_model_len)),
      defaults(load_generation_defaults(options.model, options.use_generation_config)),
      kernels(select_kernels(options.cpu_path)),
      act(choose_act(options, spec)),
      kv_dtype(choose_kv_dtype(options, act, spec)),
      pool((check_options(options), options.threads > 0 ? options.threads : usable_cores())) {
  std::unique_ptr<Device> device = open_device(options);
  if (device != nullptr && !options.trace_file.empty())
    throw_error(ErrorCode::unsupported,
                "--trace: a run on a GPU writes no timeline; nsys profile moegen .. shows one, and moegen simulate --trace writes the planned one");
  prefer_numa_node(device != nullptr ? device->numa_node() : -1);
  if (options.load_format != "dummy") checkpoint = Checkpoint::open(options.model);
  binding = bind_or_describe(*this, options);
  output_format = choose_format(options.parser);
  texts = options.counter ? options.counter->texts() : load_texts(options);
  tokenizer = texts->tokenizer ? &*texts->tokenizer : nullptr;
  chat_template = texts->chat_template ? &*texts->chat_template : nullptr;
  if (checkpoint) units = weight_units(binding);
  work = model_work(spec, binding.table, dummy_dtype(spec), kv_dtype);
  budget = budget_of(*this, options);
  if (device != nullptr) {
    gpu = gpu_setup(std::move(device), options, spec, act, binding, !checkpoint, dummy_dtype(spec));
    work.scale_weights(static_cast<double>(gpu->budget.weight_bytes));
    GpuInput& input = budget.gpu.emplace();
    input.device_memory = gpu->budget.memory;
    input.cpu_attention_share = options.cpu_attention_share;
    budget.device = &gpu->budget;
  }
  // What an emulated GPU takes says nothing about any machine.
  if (!gpu || !options.machine_file.empty() || options.device.starts_with("cuda")) find_rates(*this, options);
  if (swaps(options))
    budget.swap = {SwapFile::most_bytes(options.swap_folder, options.swap_space), swap_bandwidth(machine ? &*machine : nullptr),
                   options.swap_space.has_value()};
  if (gpu && machine) {
    if (!machine->gpu || !machine->link)
      throw_error(ErrorCode::invalid_argument, "{}: --device {} is planned with the rates of `gpu` and `link`, which it has not",
                  options.machine_file.string(), options.device);
    gpu->budget.machine = &*machine;
  }
  if (machine && !options.workload.requests.empty()) {
    decision = choose_plan({budget, &*machine, &options.workload});
    plan = decision->best.plan;
  } else {
    plan = make_plan(budget);
  }
}

LoadedModel::LoadedModel(const EngineOptions& options) : ModelSetup(options) {
  if (options.ready) options.ready(engine_info(*this, options));
  if (!options.trace_file.empty()) trace.emplace(options.trace_file);
  if (checkpoint) {
    store.emplace(binding, act, *checkpoint, pool, left_out(*this), options.loading);
  } else {
    store.emplace(binding.table, dummy_dtype(spec), act, pool);
  }
  pool.parallel_for(static_cast<int64_t>(binding.table.size()), [&](int64_t i, int) {
    const auto idx = static_cast<size_t>(i);
    const TensorSpec& t = binding.table[idx];
    if (t.role == Role::kv_b && t.part == Part::values)
      turn_key_heads(store->data(idx), store->views()[idx].dtype, spec.layers[static_cast<size_t>(t.layer)].attention);
  });
  weights = assign_weights(spec, binding.table, store->views());
  if (plan.weights.slots > 0) stream.emplace(spec, store->views(), *checkpoint, units, plan.weights, open_async_reader, trace ? &*trace : nullptr);
  if (gpu) {
    runner = std::make_unique<GpuExecutor>(*gpu->device, spec,
                                           GpuExecutor::HostWeights{binding.table, store->views(), gpu->units, weights, stream ? &*stream : nullptr,
                                                                    store->memory(), store->bytes(), gpu->expanded_elements},
                                           plan, act, kernels, pool);
  } else {
    runner = std::make_unique<Executor>(spec, weights, stream ? &*stream : nullptr, kernels, pool, plan, act, trace ? &*trace : nullptr);
  }
  end_ids = defaults.eos_ids.empty() ? spec.eos_ids : defaults.eos_ids;
  if (const auto eos = tokenizer != nullptr ? tokenizer->eos() : std::nullopt;
      eos && std::find(end_ids.begin(), end_ids.end(), *eos) == end_ids.end())
    end_ids.push_back(*eos);
}

}  // namespace moegen
