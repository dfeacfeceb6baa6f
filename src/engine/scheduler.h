#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "engine/kv_account.h"
#include "engine/sequence_store.h"
#include "model/pass.h"
#include "plan/plan.h"

namespace moegen {

/// What the logits of a row are for: they speak of position `target` of the sequence.
struct LogitTask {
  Sequence* sequence = nullptr;
  int64_t target = 0;
  bool sample = false;  ///< the next token; else a log-probability of the prompt
};

/// Packs passes. Those that may generate the most begin first, so that a job does not end with a few long ones; equals in their order.
/// A waiting sequence is admitted when pages for all it has are free; it then gets as much of a pass as is left after all generated tokens, and as it
/// finds pages for. Where a generated token needs pages and none are free, the youngest running sequence gives its pages back and waits, and goes on
/// with what the store has kept of it, or else is computed again from its own tokens. Pages that no query of a sequence sees any more are given back
/// behind every pass.
class Scheduler {
 public:
  /// `groups`: KvLayout's. `store` must outlive it; null: preempted sequences are computed again.
  Scheduler(const PassSizes& sizes, const std::vector<KvGroup>& groups, int32_t kv_pages, SequenceStore* store = nullptr);

  void add(std::unique_ptr<Sequence> sequence);
  /// A sequence that ran before goes on in front of all that wait, from what it has computed. For jobs that are simulated from their middle on.
  void add_begun(std::unique_ptr<Sequence> sequence) { preempted_.push_back(std::move(sequence)); }
  [[nodiscard]] bool idle() const { return num_waiting() + num_running() == 0; }
  /// Whether it is worth having more sequences waiting: as many as run, to choose from.
  [[nodiscard]] bool wants_more() const { return num_waiting() + num_running() < sizes_.sequences + std::max(kLeastAhead, sizes_.sequences); }
  /// From now on at most so many of each in a pass, and at most what it was made for. Those that run go on.
  void limit(int64_t pass_tokens, int64_t sequences);
  /// Longest sequence that the pages can hold, in tokens.
  [[nodiscard]] int64_t capacity() const { return kv_.capacity(); }

  /// The next pass; valid until the next call. Empty only if no sequence is left (those that can never go on have failed).
  Pass schedule();
  /// Beside the pass's logit_rows.
  [[nodiscard]] const std::vector<LogitTask>& logit_tasks() const { return tasks_; }
  /// Takes over what the pass computed and sampled, and hands out the sequences that have finished.
  void commit(std::vector<std::unique_ptr<Sequence>>& finished);
  /// Drops everything, counts as well.
  void clear();

  [[nodiscard]] const PassSizes& sizes() const { return sizes_; }
  [[nodiscard]] const std::vector<std::unique_ptr<Sequence>>& running() const { return running_; }
  /// Calls f(sequence) for all that wait, those first that will go on first.
  template <typename F>
  void for_each_waiting(const F& f) const {
    for (const auto& s : preempted_) f(*s);
    for (const auto& s : waiting_) f(*s);
  }
  [[nodiscard]] int64_t num_running() const { return static_cast<int64_t>(running_.size()); }
  [[nodiscard]] int64_t num_waiting() const { return static_cast<int64_t>(preempted_.size() + waiting_.size()); }
  [[nodiscard]] int64_t num_preemptions() const { return preemptions_; }
  /// Preempted sequences that were not kept.
  [[nodiscard]] int64_t num_recomputed() const { return recomputed_; }
  [[nodiscard]] int64_t pages_used() const { return pages().size() - pages().num_free(); }
  [[nodiscard]] const PagePool& pages() const { return kv_.pool(); }
  /// Of the pass: tokens that were there before it began to generate, and those generated.
  [[nodiscard]] int64_t prefill_tokens() const { return prefill_tokens_; }

 private:
  static constexpr int64_t kLeastAhead = 64;
  struct Part {
    Sequence* sequence;
    int32_t num_tokens;
  };

  void schedule_decodes();
  bool schedule_prefill();
  bool schedule_youngest();
  void admit();
  bool grow(size_t idx);
  void fail(std::unique_ptr<Sequence> sequence);
  void preempt_last();
  void bring_back(Sequence& sequence);
  void forget(Sequence& sequence);
  void place(Sequence& sequence, int64_t num_tokens);
  void add_logit_rows(Sequence& sequence, int64_t first_row, int64_t num_tokens);
  void release_memory(Sequence& sequence);
  void release_state(Sequence& sequence);
  [[nodiscard]] int64_t room() const { return sizes_.pass_tokens - static_cast<int64_t>(tokens_.size()); }
  [[nodiscard]] static bool decoding(const Sequence& s) { return s.computed + 1 == static_cast<int64_t>(s.tokens.size()) && s.num_generated() > 0; }

  PassSizes sizes_;
  const PassSizes most_;
  KvAccount kv_;
  SequenceStore* store_;
  PagePool states_;                                  // numbers of recurrent states, one for each running sequence
  std::deque<std::unique_ptr<Sequence>> preempted_;  // before all others, oldest first
  std::deque<std::unique_ptr<Sequence>> waiting_;    // never ran; longest_left() falls
  std::vector<std::unique_ptr<Sequence>> running_;   // oldest first
  std::vector<std::unique_ptr<Sequence>> failed_;
  std::vector<int32_t> tokens_;
  std::vector<PassSequence> sequences_;
  std::vector<Part> parts_;  // beside sequences_
  std::vector<int32_t> logit_rows_;
  std::vector<LogitTask> tasks_;
  int64_t preemptions_ = 0;
  int64_t recomputed_ = 0;
  int64_t prefill_tokens_ = 0;
};

}  // namespace moegen
