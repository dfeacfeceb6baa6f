#include "base/thread_pool.h"

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <string>
#include <system_error>

#include "base/check.h"
#include "base/error.h"

namespace moegen {
namespace {

// The processors that this process may use, by physical core: hyper-threads of one are together.
std::vector<cpu_set_t> physical_cores() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof(mask), &mask) != 0) return {};
  std::map<std::string, cpu_set_t> cores;
  for (size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mask)) continue;
    std::string siblings = std::to_string(cpu);
    if (std::ifstream in("/sys/devices/system/cpu/cpu" + siblings + "/topology/thread_siblings_list"); in) std::getline(in, siblings);
    CPU_SET(cpu, &cores.try_emplace(siblings, cpu_set_t{}).first->second);
  }
  std::vector<cpu_set_t> out;
  for (const auto& [siblings, core] : cores) out.push_back(core);
  return out;
}

// Spins as long as the gap between two kernels of a pass may be, giving way to others after a while; then sleeps.
template <typename Ready>
void wait_until(const std::atomic<uint32_t>& word, const Ready& ready) {
  constexpr int kPauses = 200;
  constexpr int kYields = 100;
  for (int i = 0; i < kPauses + kYields; ++i) {
    if (ready(word.load(std::memory_order_acquire))) return;
    if (i < kPauses) {
      _mm_pause();
    } else {
      std::this_thread::yield();
    }
  }
  for (uint32_t now = word.load(std::memory_order_acquire); !ready(now); now = word.load(std::memory_order_acquire))
    word.wait(now, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) {
  MOEGEN_CHECK(num_threads >= 1);
  threads_.reserve(static_cast<size_t>(num_threads - 1));
  try {
    // With a thread for every core each stays where its caches are. Fewer share the machine with others, and the system knows where there
    // is room. The caller goes where the workers leave room: threads that it starts inherit where it may run.
    const std::vector<cpu_set_t> cores = physical_cores();
    const bool pinned = static_cast<size_t>(num_threads) == cores.size();
    for (int worker = 1; worker < num_threads; ++worker) {
      threads_.emplace_back([this, worker] { work(worker); });
      if (!pinned) continue;
      const cpu_set_t& core = cores[static_cast<size_t>(worker)];
      static_cast<void>(pthread_setaffinity_np(threads_.back().native_handle(), sizeof(core), &core));  // if refused, as with fewer
    }
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
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  for (;;) {
    const uint32_t count = count_.load(std::memory_order_acquire);  // 0 until the job that the ticket names is complete
    const Call call = call_.load(std::memory_order_acquire);
    const void* context = context_.load(std::memory_order_acquire);
    const auto index = static_cast<uint32_t>(ticket);
    if (index >= count) return;
    if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
    call(context, index, worker);  // claimed: the job stays until left_ says that this task has ended
    if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) left_.notify_one();
    ticket = ticket_.load(std::memory_order_acquire);
  }
}

void ThreadPool::work(int worker) {
  uint32_t seen = 0;
  for (;;) {
    wait_until(generation_, [&](uint32_t now) { return now != seen; });
    seen = generation_.load(std::memory_order_acquire);
    if (end_.load(std::memory_order_relaxed)) return;
    drain(worker);
  }
}

void ThreadPool::run(int64_t count, Call call, const void* context) {
  if (threads_.empty() || count <= 1) {
    for (int64_t index = 0; index < count; ++index) call(context, index, 0);
    return;
  }
  MOEGEN_CHECK(count < int64_t{1} << 32);
  const uint64_t job = (ticket_.load(std::memory_order_relaxed) >> 32) + 1;
  // No index of the old job is free and none is running, so nobody acts on these before the new ticket is out.
  count_.store(0, std::memory_order_relaxed);
  ticket_.store(job << 32, std::memory_order_release);
  call_.store(call, std::memory_order_release);
  context_.store(context, std::memory_order_release);
  left_.store(static_cast<uint32_t>(count), std::memory_order_relaxed);
  count_.store(static_cast<uint32_t>(count), std::memory_order_release);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  drain(0);
  wait_until(left_, [](uint32_t left) { return left == 0; });
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
  const auto cores = static_cast<double>(std::max<size_t>(1, physical_cores().size()));
  return static_cast<int>(std::max(1.0, std::floor(std::min(cores, cgroup_cores()))));
}

}  // namespace moegen
