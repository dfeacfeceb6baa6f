#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "engine/scheduler.h"

namespace moegen {

/// Drives a Scheduler without a model. Beside each page slot it notes which token of which sequence was computed there, so
/// that a pass which attends to something that was never computed, or was overwritten, is seen. The next token is a function
/// of the sequence's tokens, so that recomputation must give the same answer.
class FakeModel {
 public:
  FakeModel(const PassSizes& sizes, int32_t kv_pages)
      : sizes_(sizes), scheduler(sizes, kv_pages), slots_(static_cast<size_t>(kv_pages * sizes.page_tokens), -1) {}

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
    scheduler.commit(finished);
    EXPECT_TRUE(idle || !pass.tokens.empty() || !finished.empty()) << "a pass that does nothing: the engine would turn for ever";
    return finished;
  }

 private:
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
      for (int64_t i = 0; i * sizes_.page_tokens < end; ++i) ASSERT_TRUE(pages.insert(s.page_table[i]).second) << "a page belongs to two";
      const auto slot = [&](int64_t p) -> int64_t& {
        return slots_.at(static_cast<size_t>(s.page_table[p / sizes_.page_tokens] * sizes_.page_tokens + p % sizes_.page_tokens));
      };
      for (int64_t p = 0; p < s.first_position; ++p) ASSERT_EQ(slot(p) >> 24, p) << "K and V of position " << p << " are not there";
      for (int64_t p = s.first_position; p < end; ++p) slot(p) = p << 24 | pass.tokens[static_cast<size_t>(s.first_row + p - s.first_position)];
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
    for (int64_t p = 0; p < task.target; ++p) {
      const int64_t at =
          slots_.at(static_cast<size_t>(s.pages.at(static_cast<size_t>(p / sizes_.page_tokens)) * sizes_.page_tokens + p % sizes_.page_tokens));
      ASSERT_EQ(at, p << 24 | s.tokens[static_cast<size_t>(p)]) << "position " << p << " of request " << s.request;
    }
    if (!task.sample) prompt_positions[s.request].push_back(task.target);
  }

  PassSizes sizes_;

 public:
  Scheduler scheduler;
  int64_t passes = 0;
  int64_t last_tokens = 0;  ///< of the last pass
  int64_t max_sequences_seen = 0;
  std::map<int64_t, std::vector<int64_t>> prompt_positions;  ///< of each request: targets of prompt log-probabilities, in order

 private:
  std::vector<int64_t> slots_;  // position << 24 | token, of each token slot of each page
};

}  // namespace moegen
