// measure_machine(): how long is measured what, at which sizes.
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <memory>

#include "base/checked.h"
#include "base/cpu.h"
#include "base/error.h"
#include "plan/plan.h"
#include "profile/attention_work.h"
#include "profile/disk.h"
#include "profile/gemm_work.h"
#include "profile/gpu_rates.h"
#include "profile/machine_profile.h"
#include "profile/roofs.h"
#include "profile/row_work.h"
#include "profile/shapes.h"

namespace moegen {
namespace {

// Shares of the time.
constexpr double kDisk = 0.12;
constexpr double kBeside = 0.08;
constexpr double kPeaks = 0.08;
constexpr double kDram = 0.04;
constexpr double kMlps = 0.22;
constexpr double kLinears = 0.22;
constexpr double kDecode = 0.1;
constexpr double kPrefill = 0.06;
constexpr double kRows = 0.1;
constexpr double kGpu = 0.3;  // beside all others

// Up to 24 rows weights are streamed, beyond that rows are packed: both sides of that have a point.
constexpr int64_t kMlpTokens[] = {1, 2, 4, 8, 16, 24, 32, 64, 128, 256, 512, 1024};
constexpr int64_t kLinearRows[] = {1, 2, 4, 8, 16, 24, 32, 64, 128, 512, kDefaultPassTokens};
constexpr int64_t kContexts[] = {32, 128, 512, 2048, 8192};
constexpr int64_t kSequences[] = {1, 8, 64};
constexpr int64_t kPrefillTokens = 1024;  // of a sample; less where the context is long
constexpr int64_t kPrefillQueries = 512;  // of one prompt
constexpr uint64_t kOutputBytes = 128 << 20;

std::vector<Machine::Peak> measure_peaks(ThreadPool& pool, const Effort& effort) {
  std::vector<Machine::Peak> peaks;
  ThreadPool one(1);
  const auto all = usable_kernels();
  const Effort each = effort.part(0.5 / static_cast<double>(all.size()));
  for (const Kernels* kernels : all) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      std::vector<Sampled> points = {{1, [&one, kernels, dtype] { return multiply_rate(*kernels, dtype, one); }}};
      if (pool.size() > 1)
        points.push_back({static_cast<double>(pool.size()), [&pool, kernels, dtype] { return multiply_rate(*kernels, dtype, pool); }});
      peaks.push_back({std::string(kernels->name), dtype, sample_curve(points, each, SampleTime::constant)});
    }
  }
  return peaks;
}

Curve measure_dram(const MappedMemory& memory, int threads, const Effort& effort) {
  std::vector<Sampled> points;
  for (const int n : thread_counts(threads)) {
    points.push_back({static_cast<double>(n), [&memory, pool = std::make_shared<ThreadPool>(n)] { return read_rate(memory, *pool); }});
  }
  return sample_curve(points, effort, SampleTime::constant);
}

// The bench for matrices of another format; per-row scales are taken for such of the usual groups.
Workbench bench_for(const MatrixFormat& weights, Workbench bench) {
  constexpr int64_t kUsualGroup = 128;
  bench.weights = weights.dtype;
  bench.group = weights.dtype == DType::i4 || weights.dtype == DType::u8 ? (weights.group > 0 ? weights.group : kUsualGroup) : 0;
  return bench;
}

// Sizes that are whole groups: the rate is the same.
int64_t in_groups(int64_t size, const Workbench& bench) {
  return round_up<int64_t>(size, bench.weights == DType::f4 ? kF4Block : std::max<int64_t>(1, bench.group));
}

// The least that fits any format.
DType size_of(const Workbench& bench) { return bench.weights == DType::f32 ? DType::f32 : DType::bf16; }

std::unique_ptr<MlpWork> mlp_work(int64_t hidden, int64_t width, int64_t most_tokens, const Workbench& bench) {
  hidden = in_groups(hidden, bench);
  return std::make_unique<MlpWork>(hidden, in_groups(width_that_fits(hidden, width, bench.memory.size(), size_of(bench)), bench), most_tokens, bench);
}

Curve measure_mlp(int64_t hidden, int64_t width, const Workbench& bench, const Effort& effort) {
  const std::unique_ptr<MlpWork> work = mlp_work(hidden, width, kMlpTokens[std::size(kMlpTokens) - 1], bench);
  std::vector<Sampled> points;
  for (const int64_t tokens : kMlpTokens) {
    points.push_back({static_cast<double>(tokens), [&work, tokens] { return units_per_second([&] { return work->run_routed(tokens).flops; }); }});
  }
  return sample_curve(points, effort);
}

Curve measure_linear(int64_t outputs, int64_t k, const Workbench& bench, const Effort& effort) {
  k = in_groups(k, bench);
  outputs = std::clamp<int64_t>(static_cast<int64_t>(bench.memory.size() / bytes_of(size_of(bench))) / k, 1, outputs);
  const auto most = std::clamp<int64_t>(static_cast<int64_t>(kOutputBytes / sizeof(float)) / outputs, 1, kDefaultPassTokens);
  LinearWork work(outputs, k, most, bench);
  std::vector<Sampled> points;
  for (const int64_t rows : kLinearRows) {
    if (rows > most) break;
    points.push_back({static_cast<double>(rows), [&work, rows] { return units_per_second([&] { return work.run(rows).flops; }); }});
  }
  return sample_curve(points, effort);
}

Surface measure_decode(const AttentionShape& shape, DType kv_dtype, const Workbench& bench, const Effort& effort) {
  Surface surface;
  for (const int64_t sequences : kSequences) {
    std::vector<Sampled> points;
    for (const int64_t context : kContexts) {
      points.push_back(
          {static_cast<double>(context), [work = std::make_shared<AttentionWork>(shape, AttentionLoad{sequences, 1, context}, kv_dtype, bench)] {
             return units_per_second([&] { return work->run().bytes; });
           }});
    }
    surface.lines.push_back({static_cast<double>(sequences), sample_curve(points, effort.part(1.0 / std::size(kSequences)))});
  }
  return surface;
}

Curve measure_prefill(const AttentionShape& shape, DType kv_dtype, const Workbench& bench, const Effort& effort) {
  std::vector<Sampled> points;
  for (const int64_t context : kContexts) {
    const int64_t queries = std::min(context, kPrefillQueries);
    const int64_t sequences = std::max<int64_t>(1, kPrefillTokens / context);
    points.push_back(
        {static_cast<double>(context), [work = std::make_shared<AttentionWork>(shape, AttentionLoad{sequences, queries, context}, kv_dtype, bench)] {
           return units_per_second([&] { return work->run().flops; });
         }});
  }
  return sample_curve(points, effort);
}

// Experts of many tokens, with reads beside them as where weights stream.
Together measure_beside(const ProfileInput& in, const ModelShapes& shapes, const Workbench& bench, const Effort& effort) {
  constexpr double kSeconds = 0.15;
  constexpr int64_t kTokens = 128;
  const ModelShapes::Mlp& mlp = shapes.mlps.front();
  const std::unique_ptr<MlpWork> work = mlp_work(mlp.hidden, mlp.width, kTokens, bench_for(mlp.weights, bench));
  return read_beside(
      in.directory, in.file_bytes,
      [&] {
        double flops = 0;
        double seconds = 0;
        while (seconds < kSeconds) seconds += seconds_of([&] { flops += work->run(kTokens).flops; });
        return flops / seconds;
      },
      effort);
}

double fork_join_seconds(ThreadPool& pool) {
  return seconds_per_call([&] { pool.parallel_for(pool.size(), [](int64_t, int) {}); });
}

// Products with weights of this type.
void measure_products(const ModelShapes& shapes, DType weights, const Workbench& bench, const Effort& effort, StepRates& s) {
  const auto share = [&](double of_all, size_t count) { return effort.part(of_all / static_cast<double>(count)); };
  for (const auto& [hidden, width, format] : shapes.mlps) {
    if (format.dtype != weights) continue;
    s.mlps.push_back({hidden, width, measure_mlp(hidden, width, bench_for(format, bench), share(kMlps, shapes.mlps.size())), weights});
  }
  for (const auto& [outputs, k, format] : shapes.linears) {
    if (format.dtype != weights) continue;
    s.linears.push_back({outputs, k, measure_linear(outputs, k, bench_for(format, bench), share(kLinears, shapes.linears.size())), weights});
  }
}

// `memory` is the bench's.
StepRates measure_steps(const ModelShapes& shapes, DType kv_dtype, MappedMemory& memory, const Workbench& bench, const Effort& effort) {
  StepRates s;
  s.act = bench.act;
  s.kv = kv_dtype;
  const auto share = [&](double of_all, size_t count) { return effort.part(of_all / static_cast<double>(count)); };
  measure_products(shapes, bench.weights, bench, effort, s);
  const size_t attentions = shapes.attentions.size();
  for (const AttentionShape& shape : shapes.attentions) {
    s.attentions.push_back({shape, measure_decode(shape, kv_dtype, bench, share(kDecode, attentions)),
                            measure_prefill(shape, kv_dtype, bench, share(kPrefill, attentions))});
  }
  s.rows = RowWork(shapes.spec, kv_dtype, kDefaultPassTokens, bench).sample(effort.part(kRows));
  s.fork_join_seconds = rounded(sample_rate([&] { return fork_join_seconds(bench.pool); }, {effort.rounds, 0}).median);
  s.pass_seconds = rounded(sample_rate([&] { return pass_seconds(bench); }, {effort.rounds, 0}).median);
  for (const DType coded : {DType::i4, DType::u8, DType::f8_e4m3, DType::f4}) {  // last, for what it leaves in memory
    const auto is = [coded](const auto& shape) { return shape.weights.dtype == coded; };
    if (std::none_of(shapes.mlps.begin(), shapes.mlps.end(), is) && std::none_of(shapes.linears.begin(), shapes.linears.end(), is)) continue;
    make_scales(memory, coded, bench.pool);
    measure_products(shapes, coded, bench, effort, s);
  }
  return s;
}

uint64_t dram_bytes() { return static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)); }

std::string time_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  char text[32] = "";
  ::gmtime_r(&now, &utc);
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

}  // namespace

Machine measure_machine(const ProfileInput& in) {
  Machine m;
  m.measured = Machine::Origin{time_now(), 0, in.build};
  m.measured->seconds = rounded(seconds_of([&] {
    const ModelSpec spec = in.spec != nullptr ? *in.spec : default_model();
    const Kernels& kernels = select_kernels(in.cpu_path);
    m.ssd = disk_profile(in.directory, in.file_bytes, in.effort.part(kDisk));  // first: what cannot be it says at once
    ThreadPool pool(in.threads > 0 ? in.threads : usable_cores());
    MappedMemory memory = random_memory(in.memory > 0 ? in.memory : cold_bytes(), pool);
    m.name = cpu_name();
    m.dram = {dram_bytes(), 0, measure_dram(memory, pool.size(), in.effort.part(kDram))};
    m.dram.bandwidth = m.dram.by_threads.best();
    m.cpu = {pool.size(), std::string(kernels.name), 0, 0, measure_peaks(pool, in.effort.part(kPeaks))};
    for (const Machine::Peak& p : m.cpu.peaks) m.cpu.bf16_flops = std::max(m.cpu.bf16_flops, p.dtype == DType::bf16 ? p.flops.best() : 0);
    const Workbench bench{kernels, pool, in.act, MatrixFormat::plain(spec.dtype).dtype, memory};
    const ModelShapes shapes = shapes_of(spec);
    if (in.device != nullptr) {
      GpuRates rates = measure_gpu(*in.device, {shapes, in.act, in.kv_dtype, in.memory, in.effort.part(kGpu)});
      m.gpu = std::move(rates.gpu);
      m.link = rates.link;
    }
    m.steps = measure_steps(shapes, in.kv_dtype, memory, bench, in.effort);
    if (m.ssd->read_bandwidth) {
      const Together together = measure_beside(in, shapes, bench, in.effort.part(kBeside));
      m.ssd->beside_compute = together.reads;
      m.ssd->compute_beside = together.compute;
    }
    for (const StepRates::Attention& a : m.steps->attentions) m.cpu.attention_flops = std::max(m.cpu.attention_flops, a.prefill.best());
  }));
  return m;
}

}  // namespace moegen
