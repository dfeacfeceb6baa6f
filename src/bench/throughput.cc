#include <algorithm>
#include <array>

#include "api/gpu_setup.h"
#include "base/error.h"
#include "base/size.h"
#include "bench/model_cost.h"
#include "bench/random_run.h"
#include "bench/report.h"
#include "bench/setup.h"
#include "checkpoint/checkpoint.h"
#include "moegen/bench.h"
#include "moegen/engine.h"
#include "profile/gpu_rates.h"
#include "profile/link_copy.h"

namespace moegen {
namespace {

// Of a run over prompts alone. How often a pass reads a prompt's earlier K and V is left out: nearly nothing.
Sweeps prefill_sweeps(const std::vector<Lengths>& lengths, const Run& run) {
  const auto passes = static_cast<double>(run.progress.passes);
  Sweeps s{.passes = passes, .samples = static_cast<double>(lengths.size()), .experts_used = run.experts_used / passes};
  for (const Lengths& l : lengths) {
    const auto prompt = static_cast<double>(l.prompt);
    s.tokens += prompt;
    s.prompt_keys += prompt * (prompt + 1) / 2;
    s.kv_reads += prompt;
  }
  return s;
}

// The tokens behind the first of each answer, all sequences in one pass if it holds them: what `whole` has beyond a run over prompts alone.
Sweeps decode_sweeps(const std::vector<Lengths>& lengths, int64_t sequences_in_flight, const Run& prompts, const Run& whole) {
  Sweeps s;
  int64_t longest = 0;
  for (const Lengths& l : lengths) {
    const auto steps = static_cast<double>(l.generate - 1);
    s.tokens += steps;
    s.keys += steps * (static_cast<double>(l.prompt) + 1 + steps / 2);
    longest = std::max(longest, l.generate - 1);
  }
  s.samples = s.tokens;
  s.kv_reads = s.keys;
  s.passes = std::max(static_cast<double>(longest), s.tokens / static_cast<double>(sequences_in_flight));
  const int64_t passes = std::max<int64_t>(1, whole.progress.passes - prompts.progress.passes);
  s.experts_used = std::clamp((whole.experts_used - prompts.experts_used) / static_cast<double>(passes), 0.0, 1.0);
  return s;
}

// What weights that stream took of a phase.
struct Streamed {
  double bytes = 0;
  double read_seconds = 0;  // storage was idle in the rest
  double wait_seconds = 0;  // of the cores
};

Streamed streamed(const Progress& p) { return {static_cast<double>(p.weight_bytes_read), p.weight_read_seconds, p.weight_wait_seconds}; }

Streamed operator-(const Streamed& a, const Streamed& b) {
  return {a.bytes - b.bytes, a.read_seconds - b.read_seconds, a.wait_seconds - b.wait_seconds};
}

struct Phase {
  std::vector<double> tokens_per_second, share, peak, bandwidth, storage, storage_idle, cores_wait;
  Work work;
  double tokens = 0;

  // The roof is that of the machine just before. `seconds`: none if they could not be told.
  void add(const Sweeps& sweeps, const Work& least, std::optional<double> seconds, const Streamed& weights, double flops, double dram) {
    work = least;
    tokens = sweeps.tokens;
    peak.push_back(flops);
    bandwidth.push_back(dram);
    if (!seconds) return;
    tokens_per_second.push_back(sweeps.tokens / *seconds);
    share.push_back(std::max(work.flops / flops, work.bytes / dram) / *seconds);
    storage_idle.push_back(std::max(0.0, 1 - weights.read_seconds / *seconds));
    cores_wait.push_back(weights.wait_seconds / *seconds);
    if (weights.read_seconds > 0) storage.push_back(weights.bytes / weights.read_seconds);
  }
  // As columns() names them, and with them as streaming_columns() does.
  [[nodiscard]] std::vector<Cell> cells(const std::string& phase, int64_t sequences, int64_t passes, bool streams) const {
    std::vector<Cell> out = cells(phase, sequences, passes);
    if (streams) out.insert(out.end(), {Cell(storage), Cell(storage_idle), Cell(cores_wait)});
    return out;
  }

 private:
  [[nodiscard]] std::vector<Cell> cells(const std::string& phase, int64_t sequences, int64_t passes) const {
    const Rate flops = rate_of(peak);
    const Rate dram = rate_of(bandwidth);
    const auto fixed = [](double x) { return Rate{x, x, x}; };
    const bool computes = work.flops / flops.median > work.bytes / dram.median;
    return {phase,
            sequences,
            passes,
            Cell(tokens_per_second),
            fixed(tokens * flops.median / work.flops),
            fixed(tokens * dram.median / work.bytes),
            Cell(share),
            std::string(computes ? "compute" : "DRAM"),
            fixed(work.flops / tokens),
            fixed(work.bytes / tokens)};
  }
};

std::vector<Column> columns(bool streams) {
  std::vector<Column> out{{"phase", "phase"},
                          {"sequences", "sequences"},
                          {"passes", "passes"},
                          {"tokens_per_second", "tokens/s"},
                          {"compute_roof", "compute roof tok/s"},
                          {"dram_roof", "DRAM roof tok/s"},
                          {"share", "% of the roof", 0.01},
                          {"roof", "roof"},
                          {"flops_per_token", "GFLOP/token", 1e9},
                          {"bytes_per_token", "MB/token", 1e6}};
  if (streams)
    out.insert(out.end(), {{"storage", "storage GB/s", 1e9}, {"storage_idle", "storage idle %", 0.01}, {"cores_wait", "cores wait %", 0.01}});
  return out;
}

void check_options(const ThroughputBench& o) {
  check_values("--sequences", o.sequences, 1 << 20);
  check_values("--prompt", {o.prompt}, 1 << 20);
  if (o.generate < 2 || o.generate > 1 << 20) throw_error(ErrorCode::invalid_argument, "--generate {}: expected at least 2", o.generate);
  check_values("--samples", {o.samples}, 1000);
  if (o.sequences.empty()) throw_error(ErrorCode::invalid_argument, "--sequences: expected at least one number");
}

EngineOptions engine_options(const ThroughputBench& o) {
  EngineOptions engine = o.engine;
  engine.skip_tokenizer_init = true;
  const int64_t most = *std::max_element(o.sequences.begin(), o.sequences.end());
  if (!engine.max_num_seqs) engine.max_num_seqs = most;
  if (!engine.machine_file.empty()) {  // planned as run-batch would
    for (const Lengths& l : make_lengths(o, most))
      engine.workload.requests.push_back({static_cast<int32_t>(l.prompt), static_cast<int32_t>(l.generate)});
  }
  return engine;
}

// What longer answers take beyond a run with answers of one token; none where that is no more than two runs differ.
std::optional<double> decode_seconds(const Progress& whole, const Progress& first) {
  const double seconds = whole.seconds - first.seconds;
  if (seconds <= 0.02 * first.seconds) return std::nullopt;
  return seconds;
}

void note_lost(const std::vector<double>& told, int64_t sequences, int samples, Report& report) {
  const auto lost = samples - static_cast<int64_t>(told.size());
  if (lost > 0)
    report.note(fmt::format("{} sequences: decode is lost in the noise of prefill in {} of {} runs: more --generate", sequences, lost, samples));
}

void note_preemptions(const Run& run, int64_t sequences, Report& report) {
  if (run.progress.preemptions > 0)
    report.note(fmt::format("{} sequences: {} preemptions, for KV memory was short", sequences, run.progress.preemptions));
}

DType act_of(const Engine& engine) { return engine.info().dtype == "bfloat16" ? DType::bf16 : DType::f32; }

DType kv_dtype_of(const ThroughputBench& o, const Engine& engine) { return o.engine.kv_dtype == "int8" ? DType::i8 : act_of(engine); }

// Prefill is the run with answers of one token.
class Measurement {
 public:
  Measurement(const ThroughputBench& options, Engine& engine, const ModelSpec& spec, bool streams, const MappedMemory& dram, ThreadPool& pool)
      : options_(options),
        engine_(engine),
        spec_(spec),
        streams_(streams),
        dram_(dram),
        kernels_(select_kernels(engine.info().cpu_path)),
        pool_(pool) {}

  void measure(int64_t sequences, Report& report) {
    const std::vector<Lengths> lengths = make_lengths(options_, sequences);
    Phase prefill, decode;
    Run first, whole;
    for (int i = 0; i < options_.samples; ++i) {
      const double flops = multiply_rate(kernels_, product_dtype(spec_, act_of(engine_)), pool_);
      const double dram = read_rate(dram_, pool_);
      first = run(engine_, prompts_only(lengths));
      whole = run(engine_, lengths);
      const Sweeps prompts = prefill_sweeps(lengths, first);
      prefill.add(prompts, model_work(spec_, kv_dtype_of(options_, engine_), prompts), first.progress.seconds, streamed(first.progress), flops, dram);
      const Sweeps answers = decode_sweeps(lengths, std::min(sequences, options_.engine.max_num_seqs.value_or(sequences)), first, whole);
      decode.add(answers, model_work(spec_, kv_dtype_of(options_, engine_), answers), decode_seconds(whole.progress, first.progress),
                 streamed(whole.progress) - streamed(first.progress), flops, dram);
    }
    report.row(prefill.cells("prefill", sequences, first.progress.passes, streams_));
    report.row(decode.cells("decode", sequences, whole.progress.passes - first.progress.passes, streams_));
    note_lost(decode.tokens_per_second, sequences, options_.samples, report);
    note_preemptions(whole, sequences, report);
  }

 private:
  const ThroughputBench& options_;
  Engine& engine_;
  const ModelSpec& spec_;
  bool streams_;
  const MappedMemory& dram_;
  const Kernels& kernels_;
  ThreadPool& pool_;
};

// The same of a run on a GPU, beside what its link allows for the weights and the K and V that it used, its products, and the prediction where rates
// are known.
class GpuMeasurement {
 public:
  GpuMeasurement(const ThroughputBench& options, Engine& engine, const ModelSpec& spec, Device& device)
      : options_(options), engine_(engine), spec_(spec), device_(device), copy_(device, true, kBytes) {}

  static std::vector<Column> columns() {
    return {{"phase", "phase"},
            {"sequences", "sequences"},
            {"passes", "passes"},
            {"tokens_per_second", "tokens/s"},
            {"link_roof", "link roof tok/s"},
            {"compute_roof", "compute roof tok/s"},
            {"share", "% of the roof", 0.01},
            {"link_use", "link use %", 0.01},
            {"predicted", "predicted tok/s"},
            {"link_bytes", "MB/pass", 1e6},
            {"link", "link GB/s", 1e9},
            {"compute", "TFLOP/s", 1e12}};
  }

  void measure(int64_t sequences, Report& report) {
    const std::vector<Lengths> lengths = make_lengths(options_, sequences);
    Phase prefill, decode;
    Run first, whole;
    for (int i = 0; i < options_.samples; ++i) {
      const double link = kBytes / seconds_of([&] { LinkCopy::run(std::array{&copy_}, kPiece); });
      const double flops = gpu_multiply_rate(device_, act_of(engine_));
      first = run(engine_, prompts_only(lengths));
      whole = run(engine_, lengths);
      const Progress &a = first.progress, &b = whole.progress;
      const Sweeps prompts = prefill_sweeps(lengths, first);
      prefill.add(prompts.tokens, model_work(spec_, kv_dtype_of(options_, engine_), prompts).flops, static_cast<double>(a.link_bytes), a.seconds,
                  a.predicted.passes, link, flops);
      const Sweeps answers = decode_sweeps(lengths, std::min(sequences, options_.engine.max_num_seqs.value_or(sequences)), first, whole);
      decode.add(answers.tokens, model_work(spec_, kv_dtype_of(options_, engine_), answers).flops, static_cast<double>(b.link_bytes - a.link_bytes),
                 decode_seconds(b, a), b.predicted.passes - a.predicted.passes, link, flops);
    }
    report.row(prefill.cells("prefill", sequences, first.progress.passes));
    report.row(decode.cells("decode", sequences, whole.progress.passes - first.progress.passes));
    note_lost(decode.tokens_per_second, sequences, options_.samples, report);
    note_preemptions(whole, sequences, report);
    if (whole.progress.link_bytes == 0) report.note("nothing crosses the link, which is no roof");
    if (whole.progress.predicted.passes == 0)
      report.note("nothing is predicted: no rates are known; --machine FILE has them, which moegen bench machine -m DIR --device cuda --json writes");
  }

 private:
  static constexpr size_t kBytes = size_t{64} << 20, kPiece = size_t{4} << 20;
  struct Phase {
    std::vector<double> tokens_per_second, link_roof, compute_roof, share, link_use, predicted, bytes, link, compute;

    void add(double tokens, double flops, double link_bytes, std::optional<double> seconds, double predicted_seconds, double link_rate,
             double flop_rate) {
      const double copying = link_bytes / link_rate, multiplying = flops / flop_rate;
      link.push_back(link_rate);
      compute.push_back(flop_rate);
      bytes.push_back(link_bytes);
      if (copying > 0) link_roof.push_back(tokens / copying);
      compute_roof.push_back(tokens / multiplying);
      if (predicted_seconds > 0) predicted.push_back(tokens / predicted_seconds);
      if (!seconds) return;
      tokens_per_second.push_back(tokens / *seconds);
      share.push_back(std::max(copying, multiplying) / *seconds);
      if (copying > 0) link_use.push_back(copying / *seconds);
    }
    [[nodiscard]] std::vector<Cell> cells(const std::string& name, int64_t sequences, int64_t passes) const {
      std::vector<double> each = bytes;
      for (double& b : each) b /= static_cast<double>(std::max<int64_t>(1, passes));
      return {name,
              sequences,
              passes,
              Cell(tokens_per_second),
              Cell(link_roof),
              Cell(compute_roof),
              Cell(share),
              Cell(link_use),
              Cell(predicted),
              Cell(each),
              Cell(link),
              Cell(compute)};
    }
  };
  const ThroughputBench& options_;
  Engine& engine_;
  const ModelSpec& spec_;
  Device& device_;
  LinkCopy copy_;
};

// Touches weights, activations and pages: as many prompts as fill a pass.
Progress warm_up(Engine& engine, const ThroughputBench& o) {
  constexpr int64_t kTokens = 4096;
  const int64_t most = *std::max_element(o.sequences.begin(), o.sequences.end());
  const auto count = static_cast<size_t>(std::clamp<int64_t>(kTokens / o.prompt, 1, most));
  return run(engine, std::vector<Lengths>(count, Lengths{o.prompt, 2})).progress;
}

}  // namespace

void bench_throughput(const ThroughputBench& options, std::ostream& out) {
  check_options(options);
  const uint64_t memory = check_memory(options.memory);
  const ModelSpec spec = load_spec(options.engine.model, options.engine.max_model_len);
  Engine engine(engine_options(options));
  const EngineInfo& info = engine.info();
  nlohmann::ordered_json about = about_bench("throughput", info.cpu_path, info.threads);
  about["device"] = info.device;
  if (options.engine.device_memory) about["device_memory"] = format_bytes(*options.engine.device_memory);
  about["model"] = info.model_name;
  about["dtype"] = info.dtype;
  about["prompt"] = options.prompt;
  about["generate"] = options.generate;
  about["ragged"] = options.ragged;
  about["load_format"] = options.engine.load_format;
  const bool on_gpu = info.device != "cpu";
  const bool streams = warm_up(engine, options).weight_bytes_read > 0;
  Report report(out, options.json, std::move(about), on_gpu ? GpuMeasurement::columns() : columns(streams));
  if (on_gpu) {
    EngineOptions link;
    link.device = options.engine.device;
    const std::unique_ptr<Device> device = open_device(link);
    GpuMeasurement measurement(options, engine, spec, *device);
    for (const int64_t sequences : options.sequences) measurement.measure(sequences, report);
    return report.finish();
  }
  ThreadPool pool(info.threads);
  const MappedMemory dram = random_memory(memory, pool);
  Measurement measurement(options, engine, spec, streams, dram, pool);
  for (const int64_t sequences : options.sequences) measurement.measure(sequences, report);
  report.finish();
}

}  // namespace moegen
