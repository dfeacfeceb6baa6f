#include <unistd.h>

#include <algorithm>

#include "base/cpu.h"
#include "base/error.h"
#include "bench/report.h"
#include "bench/setup.h"
#include "moegen/bench.h"
#include "profile/attention_work.h"
#include "profile/disk.h"

namespace moegen {
namespace {

constexpr std::string_view kFlops = "FLOP/s";
constexpr std::string_view kBytes = "bytes/s";

// Figures as they come: rows of a table, or of `measured` in the machine file.
class Figures {
 public:
  Figures(std::ostream& out, bool json, nlohmann::ordered_json about)
      : table_(out, json, std::move(about), {{"what", "what"}, {"path", "path"}, {"threads", "threads"}, {"rate", "rate", 1e9}, {"unit", "  unit"}}) {
  }

  void add(const std::string& what, const std::string& path, int threads, const Rate& rate, std::string_view unit) {
    rows_.push_back({{"what", what}, {"path", path}, {"threads", threads}, {"rate", to_json(rate)}, {"unit", std::string(unit)}});
    table_.row({what, path, int64_t{threads}, rate, unit == kFlops ? "  GFLOP/s" : "  GB/s"});
  }
  [[nodiscard]] const nlohmann::ordered_json& rows() const { return rows_; }

 private:
  Report table_;
  nlohmann::ordered_json rows_ = nlohmann::ordered_json::array();
};

// The best path's FLOP/s in bf16 on all threads.
double measure_peaks(BenchSetup& setup, Figures& figures) {
  double best = 0;
  ThreadPool one(1);
  for (const Kernels* kernels : usable_kernels()) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const std::string what = dtype == DType::f32 ? "multiply f32" : "multiply bf16";
      const auto measure = [&](ThreadPool& pool) {
        const Rate rate = sample(setup.samples, [&] { return multiply_rate(*kernels, dtype, pool); });
        figures.add(what, std::string(kernels->name), pool.size(), rate, kFlops);
        return rate.median;
      };
      const double single = measure(one);
      const double all = setup.pool.size() > 1 ? measure(setup.pool) : single;
      if (dtype == DType::bf16) best = std::max(best, all);
    }
  }
  return best;
}

double measure_dram(BenchSetup& setup, Figures& figures) {
  const MappedMemory memory = random_memory(setup.memory_bytes, setup.pool);
  double best = 0;
  for (const int threads : thread_counts(setup.pool.size())) {
    ThreadPool pool(threads);
    const Rate rate = sample(setup.samples, [&] { return read_rate(memory, pool); });
    figures.add("DRAM read", "", threads, rate, kBytes);
    best = std::max(best, rate.median);
  }
  return best;
}

// What the attention kernel computes when K and V are at hand: prompts of 512 tokens, eight query heads to a KV head.
double measure_attention(BenchSetup& setup, Figures& figures) {
  const MappedMemory memory = random_memory(setup.memory_bytes, setup.pool);
  AttentionWork work({32, 4, 128}, 4, 512, 512, setup.dtype, {setup.kernels, setup.pool, setup.dtype, setup.dtype, memory});
  work.run();
  const Rate rate = sample(setup.samples, [&] {
    double flops = 0;
    const double seconds = seconds_of([&] { flops = work.run().flops; });
    return flops / seconds;
  });
  figures.add("attention bf16", std::string(setup.kernels.name), setup.pool.size(), rate, kFlops);
  return rate.median;
}

uint64_t dram_bytes() { return static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)); }

}  // namespace

void bench_machine(const MachineBench& options, std::ostream& out) {
  constexpr uint64_t kLeastFile = 1 << 20;
  if (options.file_bytes < kLeastFile) throw_error(ErrorCode::invalid_argument, "--file-size {}: at least 1 MiB is needed", options.file_bytes);
  BenchSetup setup(options, "bfloat16");
  const nlohmann::ordered_json about = about_bench("machine", setup.kernels.name, setup.pool.size());
  Figures figures(out, options.json, about);
  const DiskRate disk = disk_rate(options.directory, options.file_bytes);  // first: what it cannot do it says at once
  const double flops = measure_peaks(setup, figures);
  const double attention = measure_attention(setup, figures);
  const double bandwidth = measure_dram(setup, figures);
  if (disk.read) figures.add("storage read", "", kDiskDepth, *disk.read, kBytes);
  if (!options.json) {
    out << "storage: " << disk.note << "\n";
    return;
  }
  nlohmann::ordered_json file = {{"name", cpu_name()}, {"gpu", nullptr}, {"link", nullptr}};
  file["cpu"] = {{"cores", setup.pool.size()}, {"bf16_flops", flops}, {"attention_flops", attention}};
  file["dram"] = {{"bytes", dram_bytes()}, {"bandwidth", bandwidth}};
  file["ssd"] = {{"bytes", disk.bytes}, {"read_bandwidth", nullptr}, {"note", disk.note}};
  if (disk.read) file["ssd"]["read_bandwidth"] = disk.read->median;
  file["measured"] = figures.rows();
  file["moegen"] = about["moegen"];
  out << file.dump(2) << "\n";
}

}  // namespace moegen
