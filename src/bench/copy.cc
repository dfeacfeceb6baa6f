#include <algorithm>
#include <cstring>

#include "api/gpu_setup.h"
#include "base/checked.h"
#include "base/error.h"
#include "bench/report.h"
#include "bench/setup.h"
#include "moegen/bench.h"
#include "profile/link_copy.h"

namespace moegen {
namespace {

// Bytes/s copied, each read once and written once.
double copy_rate(const MappedMemory& from, const MappedMemory& to, ThreadPool& pool) {
  constexpr size_t kBlock = 4 << 20;
  const double seconds = seconds_of([&] {
    pool.parallel_for(static_cast<int64_t>(ceil_div(from.size(), kBlock)), [&](int64_t i, int) {
      const size_t at = static_cast<size_t>(i) * kBlock;
      std::memcpy(to.data() + at, from.data() + at, std::min(kBlock, from.size() - at));
    });
  });
  return static_cast<double>(from.size()) / seconds;
}

// The link of a GPU, one way, the other, or both at once (the sum), by the bytes of a copy.
void bench_link(const CopyBench& options, std::ostream& out) {
  check_common(options);
  EngineOptions engine;
  engine.device = options.device;
  const std::unique_ptr<Device> device = open_device(engine);
  if (device == nullptr) throw_error(ErrorCode::invalid_argument, "--direction {} is for --device cuda", options.direction);
  const uint64_t bytes = options.memory > 0 ? options.memory : uint64_t{256} << 20;
  nlohmann::ordered_json about = about_bench("copy", device->name(), 1);
  about["direction"] = options.direction;
  about["bytes"] = bytes;
  Report report(out, options.json, std::move(about), {{"copy_bytes", "bytes of a copy"}, {"copy", "GB/s", 1e9}});
  std::vector<std::unique_ptr<LinkCopy>> copies;
  if (options.direction != "d2h") copies.push_back(std::make_unique<LinkCopy>(*device, true, bytes));
  if (options.direction != "h2d") copies.push_back(std::make_unique<LinkCopy>(*device, false, bytes));
  for (size_t piece = 64 << 10; piece <= std::min<size_t>(bytes, 64 << 20); piece *= 8) {
    std::vector<double> rates;
    for (int i = 0; i < options.samples; ++i) {
      const double seconds = seconds_of([&] { LinkCopy::run(copies, piece); });
      rates.push_back(static_cast<double>(bytes * copies.size()) / seconds);
    }
    report.row({static_cast<int64_t>(piece), rate_of(rates)});
  }
  report.finish();
}

}  // namespace

void bench_copy(const CopyBench& options, std::ostream& out) {
  if (options.direction == "h2d" || options.direction == "d2h" || options.direction == "both") return bench_link(options, out);
  if (options.direction != "h2h") throw_error(ErrorCode::invalid_argument, "--direction {}: expected h2h, h2d, d2h or both", options.direction);
  BenchSetup setup(options, "bfloat16");
  nlohmann::ordered_json about = about_bench("copy", setup.kernels.name, setup.pool.size());
  about["direction"] = options.direction;
  about["bytes"] = setup.memory_bytes;
  Report report(out, options.json, std::move(about),
                {{"copy_threads", "threads"}, {"copy", "copied GB/s", 1e9}, {"read", "DRAM read GB/s", 1e9}, {"share", "% of the roof", 0.01}});
  const MappedMemory from = random_memory(setup.memory_bytes, setup.pool);
  const MappedMemory to = random_memory(setup.memory_bytes, setup.pool);
  for (const int threads : thread_counts(setup.pool.size())) {
    ThreadPool pool(threads);
    std::vector<double> copied, read, share;
    for (int i = 0; i < setup.samples; ++i) {
      read.push_back(read_rate(from, pool));
      copied.push_back(copy_rate(from, to, pool));
      share.push_back(2 * copied.back() / read.back());  // every byte crosses twice
    }
    report.row({int64_t{threads}, rate_of(copied), rate_of(read), rate_of(share)});
  }
  report.finish();
}

}  // namespace moegen
