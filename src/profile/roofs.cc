#include "profile/roofs.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <fstream>

#include "base/checked.h"

namespace moegen {
namespace {

constexpr size_t kReadBlock = 4 << 20;

// Every line of the block enters the core. Several streams of additions, which become vectors.
uint64_t read_block(const std::byte* data, size_t bytes) {
  const auto* words = reinterpret_cast<const uint64_t*>(data);
  uint64_t sums[16] = {};
  for (size_t i = 0; i + 16 <= bytes / sizeof(uint64_t); i += 16) {
    for (size_t j = 0; j < 16; ++j) sums[j] ^= words[i + j];
  }
  uint64_t sum = 0;
  for (const uint64_t s : sums) sum ^= s;
  return sum;
}

// From -1 to 1, a function of the index alone (the last steps of SplitMix64).
float random_value(uint64_t index) {
  uint64_t x = index * 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  return static_cast<float>(static_cast<int32_t>((x ^ (x >> 27)) >> 32)) * 0x1p-31F;
}

}  // namespace

double multiply_rate(const Kernels& kernels, DType dtype, ThreadPool& pool) {
  constexpr double kTaskSeconds = 0.002;
  constexpr int64_t kTasksPerThread = 8;
  int64_t rounds = 256;
  while (seconds_of([&] { kernels.multiply_only(dtype, rounds); }) < kTaskSeconds) rounds *= 2;
  std::vector<double> flops(static_cast<size_t>(kTasksPerThread * pool.size()));
  const double seconds = seconds_of([&] {
    pool.parallel_for(kTasksPerThread * pool.size(), [&](int64_t i, int) { flops[static_cast<size_t>(i)] = kernels.multiply_only(dtype, rounds); });
  });
  double sum = 0;
  for (const double f : flops) sum += f;
  return sum / seconds;
}

double read_rate(const MappedMemory& memory, ThreadPool& pool) {
  std::atomic<uint64_t> sum = 0;
  const double seconds = seconds_of([&] {
    pool.parallel_for(static_cast<int64_t>(ceil_div(memory.size(), kReadBlock)), [&](int64_t i, int) {
      const size_t at = static_cast<size_t>(i) * kReadBlock;
      sum.fetch_xor(read_block(memory.data() + at, std::min(kReadBlock, memory.size() - at)), std::memory_order_relaxed);
    });
  });
  return static_cast<double>(memory.size()) / seconds;
}

std::vector<int> thread_counts(int most) {
  std::vector<int> counts;
  for (int n = 1; n < most; n *= 2) counts.push_back(n);
  counts.push_back(most);
  return counts;
}

uint64_t cold_bytes() {
  uint64_t last_kib = 0;  // of the highest index: "32768K"; sysconf() counts the caches of other processors too
  for (int index = 0; index < 8; ++index) {
    std::ifstream size(fmt::format("/sys/devices/system/cpu/cpu0/cache/index{}/size", index));
    uint64_t kib = 0;
    if (size >> kib) last_kib = std::max(last_kib, kib);
  }
  return std::max<uint64_t>(512 << 20, 4 * last_kib << 10);
}

void fill_random(void* to, DType dtype, int64_t count, ThreadPool& pool) {
  constexpr int64_t kBlock = 1 << 20;
  pool.parallel_for(ceil_div(count, kBlock), [&](int64_t block, int) {
    const int64_t end = std::min(count, (block + 1) * kBlock);
    for (int64_t i = block * kBlock; i < end; ++i) {
      const float x = random_value(static_cast<uint64_t>(i));
      if (dtype == DType::f32) {
        static_cast<float*>(to)[i] = x;
      } else {
        static_cast<bf16*>(to)[i] = to_bf16(x);
      }
    }
  });
}

MappedMemory random_memory(size_t bytes, ThreadPool& pool) {
  MappedMemory memory(bytes, "measuring");
  fill_random(memory.data(), DType::bf16, static_cast<int64_t>(bytes / sizeof(bf16)), pool);  // two of them are nearly the second, as a float
  return memory;
}

// In MXFP4 a scale near 2^-7; in FP8 a number, and no small one, with codes the like of which fill real weights, and as the highest of a float one
// from 2^-63 to 1.
void make_scales(MappedMemory& memory, DType weights, ThreadPool& pool) {
  constexpr size_t kBlock = 1 << 20;
  if (weights != DType::f4 && weights != DType::f8_e4m3) return;
  const std::byte keep = weights == DType::f4 ? std::byte{15} : std::byte{0x9f};
  const std::byte set = weights == DType::f4 ? std::byte{0x70} : std::byte{0x20};
  pool.parallel_for(static_cast<int64_t>(ceil_div(memory.size(), kBlock)), [&](int64_t block, int) {
    const size_t begin = static_cast<size_t>(block) * kBlock;
    for (size_t i = begin; i < std::min(memory.size(), begin + kBlock); ++i) memory.data()[i] = set | (memory.data()[i] & keep);
  });
}

void Roofs::Samples::add(const Work& work, double seconds, double peak, double dram) {
  const double least = std::max(work.flops / peak, work.bytes / dram);
  flops.push_back(work.flops / seconds);
  bandwidth.push_back(work.bytes / seconds);
  peak_flops.push_back(peak);
  peak_bandwidth.push_back(dram);
  share.push_back(least / seconds);
  compute_bound += work.flops / peak > work.bytes / dram ? 1 : -1;
}

Measured Roofs::Samples::result() const {
  return {rate_of(flops), rate_of(bandwidth), rate_of(peak_flops), rate_of(peak_bandwidth), rate_of(share), compute_bound > 0};
}

}  // namespace moegen
