#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "bench/report.h"
#include "bench/setup.h"
#include "moegen/bench.h"

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

void check_direction(const std::string& direction) {
  if (direction == "h2d" || direction == "d2h") {
    throw_error(ErrorCode::unsupported, "--direction {}: copies to and from a GPU are not in this version; h2h measures host memory", direction);
  }
  if (direction != "h2h") throw_error(ErrorCode::invalid_argument, "--direction {}: expected h2h, h2d or d2h", direction);
}

}  // namespace

void bench_copy(const CopyBench& options, std::ostream& out) {
  check_direction(options.direction);
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
