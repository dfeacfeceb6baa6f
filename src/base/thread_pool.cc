#include "base/thread_pool.h"

#include <immintrin.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>
#include <string>
#include <system_error>

#include "base/check.h"
#include "base/error.h"

namespace moegen {
namespace {

constexpr int kSpins = 4000;  // about 20-100 us: longer than the gap between two kernels of a pass

template <typename Ready>
void spin_then_wait(std::atomic<uint32_t>& word, uint32_t old, const Ready& ready) {
  for (int i = 0; i < kSpins; ++i) {
    if (ready()) return;
    _mm_pause();
  }
  while (!ready()) word.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) {
  MOEGEN_CHECK(num_threads >= 1);
  threads_.reserve(static_cast<size_t>(num_threads - 1));
  try {
    for (int worker = 1; worker < num_threads; ++worker) threads_.emplace_back([this, worker] { work(worker); });
  } catch (const std::system_error& e) {
    const size_t started = threads_.size() + 1;
    stop();
    throw_error(ErrorCode::out_of_memory, "{} threads were asked for, the system gave {}: {}", num_threads, started, e.what());
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  end_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::drain(int worker) {
  for (int64_t index = next_.fetch_add(1, std::memory_order_relaxed); index < count_; index = next_.fetch_add(1, std::memory_order_relaxed)) {
    call_(context_, index, worker);
  }
}

void ThreadPool::work(int worker) {
  uint32_t seen = 0;
  for (;;) {
    spin_then_wait(generation_, seen, [&] { return generation_.load(std::memory_order_acquire) != seen; });
    seen = generation_.load(std::memory_order_acquire);
    if (end_.load(std::memory_order_relaxed)) return;
    drain(worker);
    if (working_.fetch_sub(1, std::memory_order_acq_rel) == 1) working_.notify_one();
  }
}

void ThreadPool::run(int64_t count, Call call, const void* context) {
  if (threads_.empty() || count <= 1) {
    for (int64_t index = 0; index < count; ++index) call(context, index, 0);
    return;
  }
  call_ = call;
  context_ = context;
  count_ = count;
  next_.store(0, std::memory_order_relaxed);
  working_.store(static_cast<int32_t>(threads_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  drain(0);
  for (int i = 0; i < kSpins && working_.load(std::memory_order_acquire) != 0; ++i) _mm_pause();
  for (int32_t left = working_.load(std::memory_order_acquire); left != 0; left = working_.load(std::memory_order_acquire)) {
    working_.wait(left, std::memory_order_acquire);
  }
}

namespace {

// The quota of a cgroup in cores, or a large number. v2: "max 100000" or "200000 100000"; v1: two files.
double cgroup_cores() {
  double quota = 0;
  double period = 0;
  std::string first;
  if (std::ifstream v2("/sys/fs/cgroup/cpu.max"); v2 >> first >> period && first != "max") {
    quota = std::strtod(first.c_str(), nullptr);
  } else if (std::ifstream q("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), p("/sys/fs/cgroup/cpu/cpu.cfs_period_us"); !(q >> quota && p >> period)) {
    return 1e9;
  }
  return quota > 0 && period > 0 ? quota / period : 1e9;
}

}  // namespace

int usable_cores() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  std::set<std::string> cores;
  if (sched_getaffinity(0, sizeof(mask), &mask) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(static_cast<size_t>(cpu), &mask)) continue;
      const std::string base = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
      std::string siblings = std::to_string(cpu);
      if (std::ifstream in(base + "thread_siblings_list"); in) std::getline(in, siblings);
      cores.insert(siblings);
    }
  }
  const double cores_found = std::max<double>(1, static_cast<double>(cores.size()));
  return static_cast<int>(std::max(1.0, std::floor(std::min(cores_found, cgroup_cores()))));
}

}  // namespace moegen
