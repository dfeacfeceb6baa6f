#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "storage/async_reader.h"

namespace moegen {
namespace {

// A queue of at most `capacity` items that never allocates after its construction.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t capacity) : items_(capacity) {}
  [[nodiscard]] bool empty() const { return count_ == 0; }
  void push(const T& item) {
    MOEGEN_CHECK(count_ < items_.size());
    items_[(first_ + count_++) % items_.size()] = item;
  }
  T pop() {
    const T item = items_[first_];
    first_ = (first_ + 1) % items_.size();
    --count_;
    return item;
  }

 private:
  std::vector<T> items_;
  size_t first_ = 0;
  size_t count_ = 0;
};

class PreadReader : public AsyncReader {
 public:
  explicit PreadReader(unsigned depth) : requests_(depth), results_(depth) {
    try {
      for (unsigned i = 0; i < depth; ++i) threads_.emplace_back([this] { work(); });
    } catch (const std::system_error& e) {
      if (threads_.empty()) throw_error(ErrorCode::out_of_memory, "a thread that reads weights: {}", e.what());
    }
  }

  ~PreadReader() override {
    {
      const std::lock_guard lock(mutex_);
      end_ = true;
    }
    begun_.notify_all();
    for (std::thread& t : threads_) t.join();
  }

  [[nodiscard]] std::string_view name() const override { return "threads"; }

  void submit(const ReadRequest& request) override {
    {
      const std::lock_guard lock(mutex_);
      requests_.push(request);
    }
    begun_.notify_one();
  }

  size_t wait(std::span<ReadResult> results) override {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [this] { return !results_.empty(); });
    size_t count = 0;
    while (count < results.size() && !results_.empty()) results[count++] = results_.pop();
    return count;
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      begun_.wait(lock, [this] { return end_ || !requests_.empty(); });
      if (end_) return;  // what has not begun is dropped
      const ReadRequest r = requests_.pop();
      lock.unlock();
      const ssize_t got = ::pread(r.fd, r.to, r.bytes, static_cast<off_t>(r.offset));
      const ReadResult result{r.tag, got < 0 ? -int64_t{errno} : got};
      lock.lock();
      results_.push(result);
      ended_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable begun_, ended_;
  BoundedQueue<ReadRequest> requests_;
  BoundedQueue<ReadResult> results_;
  bool end_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<AsyncReader> open_pread_reader(unsigned depth) { return std::make_unique<PreadReader>(depth); }

}  // namespace moegen
