#include "batch/waiting_answers.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "moegen/error.h"
#include "tests/batch/scripted_engine.h"

namespace moegen::testing {
namespace {

TEST(WaitingAnswers, OrderIsKeptInMemoryAndOnDisk) {
  std::mt19937 rng(3);
  for (const size_t max_bytes : {size_t{0}, size_t{50}, WaitingAnswers::kMaxBytes}) {
    const Scratch scratch;
    WaitingAnswers waiting(scratch.dir, max_bytes);
    std::vector<int64_t> turns(300);
    std::iota(turns.begin(), turns.end(), 0);
    std::shuffle(turns.begin(), turns.end(), rng);
    int64_t next = 0;
    for (const int64_t turn : turns) {
      waiting.put(turn, {fmt::format("answer {}", turn), turn % 3 == 0});
      while (auto answer = waiting.take_next()) {
        EXPECT_EQ(answer->line, fmt::format("answer {}", next));
        EXPECT_EQ(answer->failed, next % 3 == 0);
        ++next;
      }
    }
    EXPECT_EQ(next, 300);
    EXPECT_TRUE(waiting.empty());
    EXPECT_TRUE(std::filesystem::is_empty(scratch.dir)) << "the file has no name";
  }
}

TEST(WaitingAnswers, NoPlaceForTheFileIsAnError) {
  WaitingAnswers waiting("/nowhere", 0);
  EXPECT_THROW(waiting.put(1, {"line", false}), Error);
}

TEST(WaitingAnswers, AreLookedAtWhereverTheyLie) {
  WaitingAnswers waiting(std::filesystem::temp_directory_path(), 4);
  for (const int turn : {3, 1, 2}) waiting.put(turn, {fmt::format("answer {}\n", turn), turn == 2, {}, 7});
  std::string seen;
  for (int again = 0; again < 2; ++again) waiting.for_each([&](const AnswerText& a) { seen += a.line + (a.failed ? "failed\n" : ""); });
  EXPECT_EQ(seen, "answer 1\nanswer 2\nfailed\nanswer 3\nanswer 1\nanswer 2\nfailed\nanswer 3\n");
  waiting.put(0, {"answer 0\n"});
  for (int turn = 0; turn < 4; ++turn) EXPECT_EQ(waiting.take_next()->line, fmt::format("answer {}\n", turn));
  EXPECT_TRUE(waiting.empty());
}

}  // namespace
}  // namespace moegen::testing
