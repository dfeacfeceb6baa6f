#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "grammar/grammar.h"

namespace moegen {

/// A thread that makes masks before they are asked for. It only fills the grammars' caches: what it has not done in time, the
/// sampler does itself.
class MaskWorker {
 public:
  MaskWorker();
  ~MaskWorker();
  MaskWorker(const MaskWorker&) = delete;
  MaskWorker& operator=(const MaskWorker&) = delete;

  /// What was left of the last call is dropped.
  void prepare(std::vector<GrammarState> states);

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<GrammarState> waiting_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace moegen
