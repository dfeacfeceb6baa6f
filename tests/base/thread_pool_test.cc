#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <numeric>
#include <thread>
#include <vector>

#include "tests/support/errors.h"

namespace moegen {
namespace {

class Pools : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Threads, Pools, ::testing::Values(1, 2, 3));

TEST_P(Pools, EveryIndexIsCalledExactlyOnce) {
  ThreadPool pool(GetParam());
  for (const int64_t count : {0, 1, 2, 7, 1000}) {
    std::vector<std::atomic<int>> calls(static_cast<size_t>(count));
    pool.parallel_for(count, [&](int64_t i, int) { calls[static_cast<size_t>(i)].fetch_add(1); });
    for (const auto& n : calls) ASSERT_EQ(n.load(), 1);
  }
}

// Plain memory, no atomics: parallel_for must itself order what is before, in and after a job (the thread sanitizer looks).
TEST_P(Pools, ManyTinyJobsSeeWhatTheOnesBeforeWrote) {
  ThreadPool pool(GetParam());
  constexpr int64_t kWidth = 13;
  std::vector<int64_t> now(kWidth, 1);
  std::vector<int64_t> next(kWidth, 0);
  for (int job = 0; job < 3000; ++job) {  // everything moves one place on: a lost or late write would stay visible
    pool.parallel_for(kWidth, [&](int64_t i, int) { next[static_cast<size_t>(i)] = now[static_cast<size_t>((i + 1) % kWidth)] + 1; });
    now.swap(next);
  }
  for (const int64_t value : now) EXPECT_EQ(value, 3001);
}

TEST_P(Pools, WorkersWakeUpAgainAfterSleeping) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // far beyond the spinning
    std::atomic<int64_t> sum{0};
    pool.parallel_for(100, [&](int64_t i, int) { sum.fetch_add(i); });
    EXPECT_EQ(sum.load(), 4950);
  }
}

TEST_P(Pools, WorkersNeverShareANumber) {
  ThreadPool pool(GetParam());
  std::vector<int64_t> per_worker(static_cast<size_t>(pool.size()), 0);  // plain: two threads with one number would race
  pool.parallel_for(5000, [&](int64_t, int worker) { ++per_worker[static_cast<size_t>(worker)]; });
  EXPECT_EQ(std::accumulate(per_worker.begin(), per_worker.end(), int64_t{0}), 5000);
}

TEST_P(Pools, EndsAtOnceUnused) {
  for (int i = 0; i < 50; ++i) const ThreadPool pool(GetParam());
}

// All workers of a job must take part at the same time, or this would never end.
TEST(ThreadPool, WorkersRunTogether) {
  ThreadPool pool(4);
  std::atomic<int> arrived{0};
  pool.parallel_for(4, [&](int64_t, int) {
    arrived.fetch_add(1);
    while (arrived.load() < 4) std::this_thread::yield();
  });
  EXPECT_EQ(arrived.load(), 4);
}

TEST(ThreadPool, ReturnsOnlyWhenTheSlowestIsDone) {
  ThreadPool pool(2);
  std::atomic<int> arrived{0};
  bool done[2] = {false, false};
  pool.parallel_for(2, [&](int64_t i, int worker) {
    arrived.fetch_add(1);
    while (arrived.load() < 2) std::this_thread::yield();                         // one index each
    if (worker != 0) std::this_thread::sleep_for(std::chrono::milliseconds(50));  // far beyond the caller's spinning
    done[i] = true;
  });
  EXPECT_TRUE(done[0] && done[1]);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
[[noreturn]] void start_more_threads_than_fit() {
  rlimit limit{};
  limit.rlim_cur = limit.rlim_max = 1 << 28;  // 256 MiB of addresses hold about thirty stacks
  ::setrlimit(RLIMIT_AS, &limit);
  try {
    const ThreadPool pool(1000);
  } catch (const Error& e) {
    std::fputs(e.what(), stderr);
    std::_Exit(e.code() == ErrorCode::out_of_memory ? 0 : 1);
  }
  std::_Exit(2);
}

TEST(ThreadPoolDeathTest, TooManyThreadsForTheSystemIsAnErrorNotTheEnd) {
  EXPECT_EXIT(start_more_threads_than_fit(), ::testing::ExitedWithCode(0), "1000 threads were asked for");
}
#endif

TEST(UsableCores, IsAtLeastOneAndAtMostTheProcessors) {
  EXPECT_GE(usable_cores(), 1);
  EXPECT_LE(usable_cores(), static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
}

// As many threads as cores: each worker keeps to one; a thread more or less, and the system places them all.
TEST(ThreadPool, WorkersKeepToTheirCoresIfTheyHaveTheMachine) {
  const int cores = usable_cores();
  cpu_set_t mask;
  CPU_ZERO(&mask);
  sched_getaffinity(0, sizeof(mask), &mask);
  if (cores < 2 || CPU_COUNT(&mask) % cores != 0) GTEST_SKIP() << "one core, or a quota";
  for (const int threads : {cores, cores + 1}) {
    ThreadPool pool(threads);
    std::atomic<int> left{threads};
    std::vector<int> allowed(static_cast<size_t>(threads));
    pool.parallel_for(threads, [&](int64_t, int worker) {
      cpu_set_t mine;
      CPU_ZERO(&mine);
      sched_getaffinity(0, sizeof(mine), &mine);
      allowed[static_cast<size_t>(worker)] = CPU_COUNT(&mine);
      for (--left; left > 0;) std::this_thread::yield();  // so that every worker has a task
    });
    for (int worker = 1; worker < threads; ++worker) {
      if (threads == cores) {
        EXPECT_LT(allowed[static_cast<size_t>(worker)], allowed[0]);
      } else {
        EXPECT_EQ(allowed[static_cast<size_t>(worker)], allowed[0]);
      }
    }
  }
}

}  // namespace
}  // namespace moegen
