#include "engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <numeric>
#include <random>

#include "tests/engine/fake_model.h"

namespace moegen {
namespace {

using ::testing::ElementsAre;

PassSizes sizes(int64_t pass_tokens, int64_t sequences, int page_tokens = 4) {
  PassSizes s;
  s.pass_tokens = pass_tokens;
  s.sequences = sequences;
  s.page_tokens = page_tokens;
  return s;
}

struct Wish {
  int64_t request = 0;
  int64_t prompt = 1;
  int64_t max_tokens = 1;
};

std::vector<TokenId> prompt_of(const Wish& wish) {
  std::vector<TokenId> out(static_cast<size_t>(wish.prompt));
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<TokenId>((wish.request * 131 + static_cast<int64_t>(i) * 7) % 60000);
  return out;
}

std::unique_ptr<Sequence> sequence(const Wish& wish, Sampling sampling = {}) {
  auto s = std::make_unique<Sequence>();
  sampling.max_tokens = wish.max_tokens;
  sampling.max_len = sampling.max_len > 0 ? sampling.max_len : 1 << 20;
  s->request = wish.request;
  s->sampling = std::make_shared<Sampling>(std::move(sampling));
  s->tokens = prompt_of(wish);
  s->prompt_len = wish.prompt;
  return s;
}

using Finished = std::vector<std::unique_ptr<Sequence>>;

// Until idle; the finished ones in their order. Fails if a pass neither computes nor finishes anything.
Finished run(FakeModel& model) {
  Finished out;
  while (!model.scheduler.idle() && model.passes < 100000) {
    const int64_t waiting = model.scheduler.num_waiting() + model.scheduler.num_running();
    Finished finished = model.step();
    for (auto& s : finished) out.push_back(std::move(s));
    if (::testing::Test::HasFatalFailure() || waiting == 0) break;
  }
  EXPECT_TRUE(model.scheduler.idle());
  EXPECT_EQ(model.scheduler.pages_used(), 0) << "pages leak";
  return out;
}

std::vector<int64_t> requests_of(const Finished& finished) {
  std::vector<int64_t> out;
  for (const auto& s : finished) out.push_back(s->request);
  return out;
}

TEST(Scheduler, OneSequenceOnePromptPassThenOnePassPerToken) {
  FakeModel model(sizes(64, 4), 10);
  model.scheduler.add(sequence({7, 5, 4}));
  const Finished finished = run(model);
  EXPECT_EQ(finished.at(0)->tokens, FakeModel::answer(prompt_of({7, 5, 4}), 4));
  EXPECT_EQ(finished[0]->finish_reason, FinishReason::length);
  EXPECT_EQ(model.passes, 4);
}

TEST(Scheduler, ALongPromptIsTakenInChunks) {
  FakeModel model(sizes(8, 4), 20);
  model.scheduler.add(sequence({1, 30, 2}));
  const Finished finished = run(model);
  EXPECT_EQ(model.passes, 5) << "8 + 8 + 8 + 6 tokens, then one generated";
  EXPECT_EQ(finished.at(0)->tokens, FakeModel::answer(prompt_of({1, 30, 2}), 2));
}

TEST(Scheduler, GeneratedTokensComeBeforeNewPrompts) {
  FakeModel model(sizes(8, 4), 40);
  model.scheduler.add(sequence({1, 4, 10}));
  model.step();
  model.scheduler.add(sequence({2, 20, 1}));
  const Pass pass = model.scheduler.schedule();
  ASSERT_EQ(pass.sequences.size(), 2U);
  EXPECT_EQ(pass.sequences[0].num_tokens, 1);
  EXPECT_EQ(pass.sequences[1].num_tokens, 7) << "the prompt gets what is left";
  EXPECT_EQ(model.scheduler.prefill_tokens(), 7);
}

TEST(Scheduler, EqualOnesFinishInTheirOrder) {
  FakeModel model(sizes(16, 2), 100);
  for (int64_t r = 0; r < 6; ++r) model.scheduler.add(sequence({r, 3, 3}));
  EXPECT_THAT(requests_of(run(model)), ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST(Scheduler, ThoseThatMayGenerateTheMostBeginFirst) {
  FakeModel model(sizes(16, 2), 100);
  Sampling short_context;
  short_context.max_len = 3;
  model.scheduler.add(sequence({0, 2, 5}, short_context));  // only one more fits its context
  model.scheduler.add(sequence({1, 2, 2}));
  model.scheduler.add(sequence({2, 2, 4}));
  model.scheduler.add(sequence({3, 2, 4}));
  model.scheduler.add(sequence({4, 9, 6}));
  EXPECT_THAT(requests_of(run(model)), ElementsAre(2, 4, 3, 1, 0)) << "4 and 2 begin, then 3, 1, 0";
}

TEST(Scheduler, FinishedSequencesRetireAndTheQueueRefillsAtOnce) {
  FakeModel model(sizes(16, 2), 100);
  model.scheduler.add(sequence({0, 2, 2}));
  model.scheduler.add(sequence({1, 2, 9}));
  model.scheduler.add(sequence({2, 2, 2}));
  model.step();
  EXPECT_EQ(requests_of(model.step()), (std::vector<int64_t>{0}));
  EXPECT_EQ(model.scheduler.num_running(), 1);
  model.step();
  EXPECT_EQ(model.scheduler.num_running(), 2) << "the very next pass has the waiting one";
  EXPECT_THAT(requests_of(run(model)), ElementsAre(2, 1));
}

TEST(Scheduler, EndAndStopIdsEndASequence) {
  const auto tokens = FakeModel::answer(prompt_of({3, 2, 9}), 9);
  Sampling by_end, by_stop;
  by_end.end_ids = {tokens[4]};
  by_stop.stop_ids = {tokens[5]};
  FakeModel model(sizes(16, 4), 100);
  model.scheduler.add(sequence({3, 2, 9}, by_end));
  model.scheduler.add(sequence({3, 2, 9}, by_stop));
  const Finished finished = run(model);
  EXPECT_EQ(finished.at(0)->tokens.size(), 5U) << "the end id is part of the answer";
  EXPECT_TRUE(finished[0]->ended_by_id && !finished[0]->stop_id);
  EXPECT_EQ(finished[0]->finish_reason, FinishReason::stop);
  EXPECT_EQ(finished.at(1)->stop_id, tokens[5]);
}

TEST(Scheduler, AnEndIdAsTheLastAllowedTokenIsAStopNotALength) {
  Sampling sampling;
  sampling.end_ids = {FakeModel::answer(prompt_of({3, 2, 3}), 3).back()};
  FakeModel model(sizes(16, 4), 100);
  model.scheduler.add(sequence({3, 2, 3}, sampling));
  EXPECT_EQ(run(model).at(0)->finish_reason, FinishReason::stop);
}

class StopAtThird : public StopRule {
 public:
  bool complete(TokenId, bool) override { return ++calls == 3; }
  int calls = 0;
};

TEST(Scheduler, AStopRuleSeesEveryTokenAndMayEnd) {
  FakeModel model(sizes(16, 4), 100);
  auto s = sequence({1, 2, 50});
  s->stop_rule = std::make_unique<StopAtThird>();
  model.scheduler.add(std::move(s));
  const Finished finished = run(model);
  EXPECT_EQ(finished.at(0)->num_generated(), 3);
  EXPECT_EQ(finished[0]->finish_reason, FinishReason::stop);
}

TEST(Scheduler, TheContextEndsASequence) {
  Sampling sampling;
  sampling.max_len = 6;
  FakeModel model(sizes(16, 4), 100);
  model.scheduler.add(sequence({1, 4, 50}, sampling));
  EXPECT_EQ(run(model).at(0)->tokens.size(), 6U);
}

TEST(Scheduler, PromptLogprobsCoverEveryPositionOnceInChunks) {
  FakeModel model(sizes(5, 4), 100);
  for (const int64_t max_tokens : {0, 2}) {
    auto s = sequence({max_tokens, 17, max_tokens});
    s->prompt_logprobs.per_position = 2;
    model.scheduler.add(std::move(s));
  }
  const Finished finished = run(model);
  const auto alone = std::find_if(finished.begin(), finished.end(), [](const auto& s) { return s->request == 0; });
  ASSERT_NE(alone, finished.end());
  std::vector<int64_t> all(16);
  std::iota(all.begin(), all.end(), 1);
  EXPECT_EQ(model.prompt_positions[0], all);
  EXPECT_EQ(model.prompt_positions[2], all);
  EXPECT_EQ((*alone)->num_generated(), 0) << "max_tokens 0: the prompt alone";
}

TEST(Scheduler, WhenPagesRunOutTheYoungestWaitsAndIsComputedAgain) {
  FakeModel model(sizes(64, 8), 6);  // 24 tokens for two that want 16 each
  model.scheduler.add(sequence({0, 4, 12}));
  model.scheduler.add(sequence({1, 4, 12}));
  const Finished finished = run(model);
  EXPECT_THAT(requests_of(finished), ElementsAre(0, 1));
  EXPECT_EQ(model.scheduler.num_preemptions(), 1);
  for (const auto& s : finished) EXPECT_EQ(s->tokens, FakeModel::answer(prompt_of({s->request, 4, 12}), 12));
}

TEST(Scheduler, WhatIsKeptIsNotComputedAgain) {
  FakeModel model(sizes(64, 8), 6, {{}}, 1000);
  model.scheduler.add(sequence({0, 4, 12}));
  model.scheduler.add(sequence({1, 4, 12}));
  int64_t tokens = 0;
  for (; !model.scheduler.idle(); tokens += model.last_tokens) {
    for (const auto& s : model.step()) EXPECT_EQ(s->tokens, FakeModel::answer(prompt_of({s->request, 4, 12}), 12));
  }
  EXPECT_EQ(tokens, 2 * (4 + 11));
  EXPECT_EQ(model.scheduler.num_preemptions(), 1);
  EXPECT_EQ(model.scheduler.num_recomputed(), 0);
}

TEST(Scheduler, WhatCannotBeBroughtBackIsComputedAgain) {
  FakeModel model(sizes(64, 8), 6, {{}}, 1);  // keeps it, and fails to bring it back
  model.scheduler.add(sequence({0, 4, 12}));
  model.scheduler.add(sequence({1, 4, 12}));
  for (const auto& s : run(model)) EXPECT_EQ(s->tokens, FakeModel::answer(prompt_of({s->request, 4, 12}), 12));
  EXPECT_EQ(model.scheduler.num_preemptions(), 1);
  EXPECT_EQ(model.scheduler.num_recomputed(), 1);
  EXPECT_EQ(model.num_kept(), 0U);
}

TEST(Scheduler, APreemptedSequenceGoesBeforeThoseThatNeverRan) {
  FakeModel model(sizes(64, 2), 6);
  for (int64_t r = 0; r < 4; ++r) model.scheduler.add(sequence({r, 4, 12}));
  EXPECT_THAT(requests_of(run(model)), ElementsAre(0, 1, 2, 3));
  EXPECT_GT(model.scheduler.num_preemptions(), 0);
}

TEST(Scheduler, PreemptionAsksForNoPromptLogprobTwice) {
  FakeModel model(sizes(64, 8), 6);
  model.scheduler.add(sequence({0, 4, 12}));
  auto s = sequence({1, 4, 12});
  s->prompt_logprobs.per_position = 1;
  model.scheduler.add(std::move(s));
  run(model);
  EXPECT_GT(model.scheduler.num_preemptions(), 0);
  EXPECT_THAT(model.prompt_positions[1], ElementsAre(1, 2, 3));
}

TEST(Scheduler, AdmissionLeavesAPageForEachThatRuns) {
  FakeModel model(sizes(64, 8), 4);
  model.scheduler.add(sequence({0, 4, 8}));
  model.scheduler.add(sequence({1, 12, 2}));  // would fit into the three free pages, and be preempted at once
  const Finished finished = run(model);
  EXPECT_EQ(finished.size(), 2U);
  EXPECT_EQ(model.scheduler.num_preemptions(), 0);
}

TEST(Scheduler, AnAnswerThatFillsTheLastPageIsNoError) {
  FakeModel model(sizes(64, 8), 2);
  model.scheduler.add(sequence({0, 4, 5}));  // 9 tokens; K and V of the last are not needed
  const Finished finished = run(model);
  EXPECT_EQ(finished.at(0)->error, "");
  EXPECT_EQ(finished[0]->tokens.size(), 9U);
}

TEST(Scheduler, AnAnswerBeyondAllPagesFailsAndTheOthersGoOn) {
  FakeModel model(sizes(64, 8), 2);
  model.scheduler.add(sequence({0, 4, 6}));
  model.scheduler.add(sequence({1, 3, 2}));
  const Finished finished = run(model);
  ASSERT_EQ(finished.size(), 2U);
  for (const auto& s : finished) EXPECT_EQ(s->error.empty(), s->request == 1) << s->error;
  EXPECT_THAT(finished[finished[0]->request == 0 ? 0 : 1]->error, ::testing::HasSubstr("the KV pages hold 8 tokens"));
}

// It would wait for ever, and with it all behind it.
TEST(Scheduler, APromptBeyondAllPagesFailsInsteadOfWaiting) {
  FakeModel model(sizes(64, 8), 2);
  model.scheduler.add(sequence({0, 9, 1}));
  model.scheduler.add(sequence({1, 8, 1}));
  for (int i = 0; i < 3 && !model.scheduler.idle(); ++i) {
    for (const auto& s : model.step()) EXPECT_EQ(s->error.empty(), s->request == 1) << s->error;
  }
  EXPECT_TRUE(model.scheduler.idle());
  EXPECT_EQ(model.scheduler.pages_used(), 0);
}

TEST(Scheduler, ClearGivesEveryPageBack) {
  FakeModel model(sizes(8, 8), 20);
  for (int64_t r = 0; r < 10; ++r) model.scheduler.add(sequence({r, 7, 9}));
  for (int i = 0; i < 5; ++i) model.step();
  EXPECT_GT(model.scheduler.pages_used(), 0);
  model.scheduler.clear();
  EXPECT_TRUE(model.scheduler.idle());
  EXPECT_EQ(model.scheduler.pages_used(), 0);
  model.scheduler.add(sequence({1, 7, 9}));
  EXPECT_EQ(run(model).size(), 1U);
}

TEST(Scheduler, ClearDropsWhatIsKept) {
  FakeModel model(sizes(64, 8), 6, {{}}, 1000);
  model.scheduler.add(sequence({0, 4, 12}));
  model.scheduler.add(sequence({1, 4, 12}));
  while (model.num_kept() == 0) model.step();
  model.scheduler.clear();
  EXPECT_EQ(model.num_kept(), 0U);
  model.scheduler.add(sequence({1, 7, 9}));
  EXPECT_EQ(run(model).size(), 1U);
}

TEST(Scheduler, WantsMoreUntilTheQueueIsAheadOfTheSlots) {
  FakeModel model(sizes(8, 3), 20);
  int64_t added = 0;
  for (; model.scheduler.wants_more(); ++added) model.scheduler.add(sequence({added, 1, 1}));
  EXPECT_GT(added, 3);
  EXPECT_LT(added, 200);
}

TEST(Scheduler, ALimitHoldsFromTheNextPassOnAndLosesNobody) {
  FakeModel model(sizes(32, 8), 200);
  for (int64_t r = 0; r < 20; ++r) model.scheduler.add(sequence({r, 4, 10}));
  model.step();
  EXPECT_EQ(model.scheduler.num_running(), 8);
  model.scheduler.limit(6, 3);
  Finished finished;
  while (!model.scheduler.idle()) {
    for (auto& s : model.step()) finished.push_back(std::move(s));
    EXPECT_LE(model.last_tokens, 6);
  }
  EXPECT_EQ(finished.size(), 20U);
  for (const auto& s : finished) EXPECT_EQ(s->tokens, FakeModel::answer(prompt_of({s->request, 4, 10}), 10));
  model.scheduler.limit(1000, 1000);
  model.scheduler.add(sequence({0, 40, 1}));
  model.step();
  EXPECT_EQ(model.last_tokens, 32) << "never more than it was made for";
}

// Groups of layers as models have them: all see everything; all through a window; half of them; two of three in chunks.
const std::vector<std::vector<KvGroup>> kGroups{{{}}, {{.window = 9}}, {{}, {.window = 6}}, {{.chunk = 8}, {}, {.chunk = 8}}};

TEST(Scheduler, PagesOfAWindowAreBoundedHoweverLongTheSequence) {
  for (const int64_t tokens : {60, 600, 3000}) {
    FakeModel model(sizes(16, 4), 8, {{.window = 9}});  // at most 16 + 9 positions, in pages of 4
    model.scheduler.add(sequence({1, 50, tokens}));
    EXPECT_EQ(run(model).at(0)->tokens, FakeModel::answer(prompt_of({1, 50, tokens}), tokens));
    EXPECT_LE(model.most_pages, 7);
    EXPECT_EQ(model.scheduler.num_preemptions(), 0);
  }
}

TEST(Scheduler, PagesOfLayersThatAlternateAreHalfOfThoseThatAllSee) {
  const auto most_pages = [](const std::vector<KvGroup>& groups) {
    FakeModel model(sizes(16, 4), 1000, groups);
    model.scheduler.add(sequence({1, 50, 950}));
    EXPECT_EQ(run(model).size(), 1U);
    return model.most_pages;
  };
  EXPECT_EQ(most_pages({{}, {}}), 500);
  EXPECT_LE(most_pages({{}, {.window = 6}}), 250 + 3);
  EXPECT_LE(most_pages({{}, {.chunk = 8}}), 250 + 2 + 1);
  EXPECT_EQ(most_pages({{.chunk = 100000}, {}}), 500);
}

// A pass that is longer than the window has pages for all that it computes, or is cut to those there are.
TEST(Scheduler, APromptOfAWindowNeedsPagesForItsPassOnly) {
  FakeModel model(sizes(40, 4), 12, {{.window = 6}});
  model.scheduler.add(sequence({1, 200, 1}));
  EXPECT_EQ(run(model).size(), 1U);
  EXPECT_EQ(model.passes, 5);
  FakeModel small(sizes(40, 4), 4, {{.window = 6}});
  small.scheduler.add(sequence({1, 200, 1}));
  EXPECT_EQ(run(small).at(0)->tokens, FakeModel::answer(prompt_of({1, 200, 1}), 1));
  EXPECT_GT(small.passes, 15);
  EXPECT_LE(small.most_pages, 4);
}

TEST(Scheduler, TheLongestSequenceOfAWindowIsBoundedByNothingOnceItsPagesFit) {
  EXPECT_EQ(Scheduler(sizes(8, 4), {{.window = 9}}, 2).capacity(), 8);
  EXPECT_EQ(Scheduler(sizes(8, 4), {{.window = 9}}, 3).capacity(), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(Scheduler(sizes(8, 4), {{}, {.window = 5}}, 13).capacity(), 44) << "11 pages and 2";
  EXPECT_EQ(Scheduler(sizes(8, 4), {{}, {}}, 13).capacity(), 24);
}

// Many small machines with many wishes: everything is answered as if it had run alone, or refused because it cannot fit.
TEST(Scheduler, StressEveryAnswerIsAsIfItHadRunAlone) {
  int64_t preemptions = 0, recomputed = 0, failures = 0;
  for (uint32_t seed = 0; seed < 1200 && !HasFatalFailure(); ++seed) {
    std::mt19937 random(seed);
    const auto up_to = [&](int64_t n) { return 1 + static_cast<int64_t>(random() % static_cast<uint32_t>(n)); };
    const int page_tokens = static_cast<int>(up_to(5));
    const auto pages = static_cast<int32_t>(up_to(30));
    const int64_t pass_tokens = up_to(20);
    const auto& groups = kGroups[seed % kGroups.size()];
    FakeModel model(sizes(pass_tokens, up_to(pass_tokens), page_tokens), pages, groups, std::array<int64_t, 4>{0, 1 << 20, 3, 1}[seed / 4 % 4]);
    const bool chunks = std::any_of(groups.begin(), groups.end(), [](const KvGroup& g) { return g.chunk > 0; });
    std::map<int64_t, Wish> wishes;
    Finished finished;
    const int64_t count = up_to(40);
    for (int64_t r = 0; r < count || !model.scheduler.idle();) {
      for (; r < count && random() % 3 != 0; ++r) {  // they arrive while others run
        wishes[r] = {r, up_to(25), static_cast<int64_t>(random() % 20)};
        auto s = sequence(wishes[r]);
        s->prompt_logprobs.per_position = random() % 4 == 0 ? 1 : 0;
        model.scheduler.add(std::move(s));
      }
      for (auto& s : model.step()) finished.push_back(std::move(s));
      ASSERT_LT(model.passes, 50000) << "no end, seed " << seed;
      ASSERT_FALSE(HasFatalFailure()) << "seed " << seed;
    }
    ASSERT_EQ(finished.size(), wishes.size()) << "seed " << seed;
    ASSERT_EQ(model.scheduler.pages_used(), 0) << "seed " << seed;
    ASSERT_EQ(model.num_kept(), 0U) << "seed " << seed;
    for (const auto& s : finished) {
      const Wish& wish = wishes.at(s->request);
      const int64_t cached = wish.prompt + std::max<int64_t>(0, wish.max_tokens - 1);  // K and V of the last token are not needed
      const bool fits = cached <= model.scheduler.capacity();
      // Of chunks more may fit than is promised: they need not begin with a page.
      ASSERT_TRUE(s->error.empty() == fits || (chunks && s->error.empty())) << "seed " << seed << ": " << s->error;
      const bool right = s->tokens == FakeModel::answer(prompt_of(wish), wish.max_tokens);
      ASSERT_TRUE(right || !fits) << "seed " << seed;
      failures += fits ? 0 : 1;
      wishes.erase(s->request);
    }
    preemptions += model.scheduler.num_preemptions();
    recomputed += model.scheduler.num_recomputed();
  }
  EXPECT_GT(recomputed, 150) << "the stress must stress";
  EXPECT_GT(preemptions - recomputed, 150) << "the stress must stress";
  EXPECT_GT(failures, 10);
}

}  // namespace
}  // namespace moegen
