#include "simulate/length_watch.h"

#include <gtest/gtest.h>

#include <random>

#include "moegen/plan.h"

namespace moegen {
namespace {

TEST(LengthWatch, ExpectsTheLimitUntilAnAnswerEndsByItself) {
  LengthWatch watch;
  EXPECT_EQ(watch.expected(512), 512);
  watch.add(100000, 0);
  EXPECT_EQ(watch.expected(512), 512);
}

TEST(LengthWatch, AnswersThatStillRunCount) {
  // 256 answers of 40 tokens on average at most 200 begin together; whenever one looks, the mean is the right one, though at first only
  // short ones have ended.
  std::mt19937 rng(1);
  std::geometric_distribution<int> tokens_before_last(1.0 / 40);
  std::vector<int> lengths(4096);
  for (int& length : lengths) length = 1 + tokens_before_last(rng);
  constexpr int kLimit = 200;
  LengthWatch watch;
  for (int pass = 1; pass <= kLimit; ++pass) {
    int64_t generated = 0;
    int64_t ended = 0;
    for (const int length : lengths) {
      generated += length >= pass ? 1 : 0;
      ended += length == pass ? 1 : 0;
    }
    watch.add(generated, ended);
    if (pass < 8) continue;
    EXPECT_NEAR(watch.expected(kLimit), 39.7, 4) << pass;
  }
}

TEST(LengthWatch, LimitsAndTheFirstTokenBoundIt) {
  LengthWatch watch;
  watch.add(10, 10);
  EXPECT_EQ(watch.expected(512), 1);
  EXPECT_EQ(watch.expected(0), 0);
  LengthWatch seldom;
  seldom.add(1000000, 1);
  EXPECT_NEAR(seldom.expected(10), 10, 1e-3);
}

TEST(LengthWatch, TheRestOfAJobHasExpectedLengths) {
  LengthWatch watch;
  watch.add(400, 10);
  const Workload rest = rest_of(equal_requests(64, 500, 100), 30, watch);
  ASSERT_EQ(rest.requests.size(), 30U);
  EXPECT_EQ(rest.requests[0].prompt_tokens, 64);
  EXPECT_EQ(rest.requests[0].output_tokens, 40);
}

}  // namespace
}  // namespace moegen
