#include "engine/mask_worker.h"

#include <utility>

#include "moegen/error.h"

namespace moegen {

MaskWorker::MaskWorker() : thread_([this] { run(); }) {}

MaskWorker::~MaskWorker() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void MaskWorker::prepare(std::vector<GrammarState> states) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.swap(states);
  }
  changed_.notify_one();
}

void MaskWorker::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || !waiting_.empty(); });
    if (stop_) return;
    const GrammarState state = std::move(waiting_.back());
    waiting_.pop_back();
    lock.unlock();
    try {
      static_cast<void>(state.mask());
    } catch (const Error&) {
      // The sampler meets it again, and says so.
    }
    lock.lock();
  }
}

}  // namespace moegen
