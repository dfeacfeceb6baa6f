#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace moegen {

/// A fixed set of threads for fork-join work. One caller at a time; the caller is worker 0 and works too.
/// Between jobs the workers spin for some microseconds, then sleep on a futex. A job ends when its last task has ended: it never
/// waits for a worker that has not begun one, so more threads than cores cost little.
class ThreadPool {
 public:
  /// `num_threads` >= 1, the caller's included. Throws Error(out_of_memory) where the system does not give as many.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int size() const { return static_cast<int>(threads_.size()) + 1; }

  /// Calls task(index, worker) once for every index in [0, count), in any order, on any worker; returns when all are done.
  /// Results must not depend on who did what. The task must not throw and must not call the pool.
  template <typename Task>
  void parallel_for(int64_t count, const Task& task) {
    run(
        count, [](const void* context, int64_t index, int worker) { (*static_cast<const Task*>(context))(index, worker); }, &task);
  }

 private:
  using Call = void (*)(const void* context, int64_t index, int worker);
  void run(int64_t count, Call call, const void* context);
  void work(int worker);
  void drain(int worker);
  void stop();

  // The job. A worker may read it at any time; what it read counts only if it then claims an index of the ticket it saw before.
  std::atomic<Call> call_{nullptr};
  std::atomic<const void*> context_{nullptr};
  std::atomic<uint32_t> count_{0};
  alignas(64) std::atomic<uint64_t> ticket_{0};      // number of the job << 32 | next index
  alignas(64) std::atomic<uint32_t> generation_{0};  // changes with a new job, and at the end: what sleepers wait for
  alignas(64) std::atomic<uint32_t> left_{0};        // tasks of the job that have not ended
  std::atomic<bool> end_{false};
  std::vector<std::thread> threads_;
};

/// Physical cores this process may use: affinity mask, hyper-threads counted once, cgroup CPU quota. At least 1.
int usable_cores();

}  // namespace moegen
