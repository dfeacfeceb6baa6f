#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "engine/scheduler.h"

namespace moegen {

/// Drives a Scheduler without a model. Beside each page slot it notes which token of which sequence was computed there, and for which group of
/// layers, and wipes pages that are free, so that a pass which attends to something that was never computed, or was overwritten, or given back, is
/// seen. The next token is a function of the sequence's tokens, so that recomputation must give the same answer.
class FakeModel : private SequenceStore {
 public:
  /// It keeps preempted sequences, and fails with every (`works` + 1)-th of these steps; 0: it keeps none.
  FakeModel(const PassSizes& sizes, int32_t kv_pages, std::vector<KvGroup> groups = {{}}, int64_t works = 0)
      : sizes_(sizes),
        groups_(std::move(groups)),
        works_(works),
        scheduler(sizes, groups_, kv_pages, works > 0 ? this : nullptr),
        slots_(static_cast<size_t>(kv_pages * sizes.page_tokens), -1) {}

  static TokenId next_token(const std::vector<TokenId>& tokens) {
    uint32_t hash = 17;
    for (const TokenId t : tokens) hash = hash * 31 + static_cast<uint32_t>(t);
    return static_cast<TokenId>(hash >> 8 & 0xffff);
  }

  /// What must come out of a sequence whatever else runs beside it.
  static std::vector<TokenId> answer(std::vector<TokenId> tokens, int64_t max_tokens) {
    for (int64_t i = 0; i < max_tokens; ++i) tokens.push_back(next_token(tokens));
    return tokens;
  }

  /// One pass; checks everything that holds of any pass. Returns the requests that finished with it.
  std::vector<std::unique_ptr<Sequence>> step() {
    const bool idle = scheduler.idle();
    const Pass pass = scheduler.schedule();
    check(pass);
    for (const LogitTask& task : scheduler.logit_tasks()) {
      if (task.sample) task.sequence->next_token = next_token(task.sequence->tokens);
    }
    ++passes;
    last_tokens = static_cast<int64_t>(pass.tokens.size());
    max_sequences_seen = std::max(max_sequences_seen, static_cast<int64_t>(pass.sequences.size()));
    std::vector<std::unique_ptr<Sequence>> finished;
    most_pages = std::max(most_pages, scheduler.pages_used());
    scheduler.commit(finished);
    wipe_free_pages();
    EXPECT_TRUE(idle || !pass.tokens.empty() || !finished.empty()) << "a pass that does nothing: the engine would turn for ever";
    return finished;
  }

 private:
  bool works() { return ++store_calls_ % (works_ + 1) != 0; }

  bool keep(const Sequence& s) override {
    if (!works()) return false;
    std::vector<int64_t>& copy = store_.emplace_back();
    for_each_page(s, [&](auto page) { copy.insert(copy.end(), page, page + sizes_.page_tokens); });
    return true;
  }

  bool bring_back(const Sequence& s) override {
    const std::vector<int64_t> copy = std::move(store_.back());
    store_.pop_back();
    auto from = copy.begin();
    for_each_page(s, [&](auto page) { page = std::copy_n(std::exchange(from, from + sizes_.page_tokens), sizes_.page_tokens, page); });
    EXPECT_EQ(from, copy.end());
    return works();
  }

  void drop() override { store_.pop_back(); }

  template <typename F>
  void for_each_page(const Sequence& s, const F& f) {
    for (const int32_t page : s.pages) {
      EXPECT_NE(page, KvAccount::kKept);
      if (page >= 0) f(slots_.begin() + page * sizes_.page_tokens);
    }
  }

  void check(const Pass& pass) {
    ASSERT_LE(static_cast<int64_t>(pass.tokens.size()), sizes_.pass_tokens);
    ASSERT_LE(static_cast<int64_t>(pass.sequences.size()), sizes_.sequences);
    ASSERT_EQ(pass.logit_rows.size(), scheduler.logit_tasks().size());
    std::set<int32_t> pages;
    int32_t row = 0;
    for (const PassSequence& s : pass.sequences) {
      ASSERT_EQ(s.first_row, row);
      ASSERT_GE(s.num_tokens, 1);
      row += s.num_tokens;
      const int64_t end = s.first_position + s.num_tokens;
      for (size_t g = 0; g < groups_.size(); ++g) {
        const int64_t seen = groups_[g].first_seen(s.first_position);
        for (int64_t i = seen / sizes_.page_tokens; i * sizes_.page_tokens < end; ++i) {
          const int32_t page = s.page_table[static_cast<size_t>(i) * groups_.size() + g];
          ASSERT_TRUE(pages.insert(page).second) << "a page belongs to two";
          ASSERT_FALSE(scheduler.pages().is_free(page)) << "a page was given back too soon";
        }
        for (int64_t p = s.first_position; p < end; ++p)
          slot(s.page_table, p, g) = noted(p, g, pass.tokens[static_cast<size_t>(s.first_row + p - s.first_position)]);
      }
    }
    ASSERT_EQ(static_cast<size_t>(row), pass.tokens.size());
    for (size_t i = 0; i < pass.logit_rows.size(); ++i) {
      ASSERT_TRUE(i == 0 || pass.logit_rows[i - 1] < pass.logit_rows[i]);
      check_task(pass, pass.logit_rows[i], scheduler.logit_tasks()[i]);
    }
  }

  // The row of a task holds the token before its target, and all before that is in the pages as the sequence has it.
  void check_task(const Pass& pass, int32_t row, const LogitTask& task) {
    const Sequence& s = *task.sequence;
    ASSERT_EQ(pass.tokens[static_cast<size_t>(row)], s.tokens[static_cast<size_t>(task.target - 1)]);
    ASSERT_EQ(task.sample, task.target == static_cast<int64_t>(s.tokens.size()));
    for (size_t g = 0; g < groups_.size(); ++g) {
      for (int64_t p = groups_[g].first_seen(task.target - 1); p < task.target; ++p) {
        ASSERT_EQ(slot(s.pages.data(), p, g), noted(p, g, s.tokens[static_cast<size_t>(p)])) << "position " << p << " of request " << s.request;
      }
    }
    if (!task.sample) prompt_positions[s.request].push_back(task.target);
  }

  static int64_t noted(int64_t position, size_t group, TokenId token) { return static_cast<int64_t>(group) << 48 | position << 24 | token; }

  int64_t& slot(const int32_t* page_table, int64_t position, size_t group) {
    const int32_t page = page_table[static_cast<size_t>(position / sizes_.page_tokens) * groups_.size() + group];
    return slots_.at(static_cast<size_t>(page * sizes_.page_tokens + position % sizes_.page_tokens));
  }

  void wipe_free_pages() {
    for (int32_t page = 0; page < scheduler.pages().size(); ++page) {
      if (scheduler.pages().is_free(page)) std::fill_n(slots_.begin() + page * sizes_.page_tokens, sizes_.page_tokens, -1);
    }
  }

  PassSizes sizes_;
  std::vector<KvGroup> groups_;
  int64_t works_;

 public:
  Scheduler scheduler;
  int64_t passes = 0;
  int64_t last_tokens = 0;  ///< of the last pass
  int64_t max_sequences_seen = 0;
  int64_t most_pages = 0;                                    ///< that any pass had
  std::map<int64_t, std::vector<int64_t>> prompt_positions;  ///< of each request: targets of prompt log-probabilities, in order
  [[nodiscard]] size_t num_kept() const { return store_.size(); }

 private:
  std::vector<int64_t> slots_;  // noted(), of each token slot of each page
  std::vector<std::vector<int64_t>> store_;
  int64_t store_calls_ = 0;
};

}  // namespace moegen
