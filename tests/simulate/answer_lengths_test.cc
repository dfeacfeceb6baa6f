#include "simulate/answer_lengths.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "moegen/plan.h"
#include "simulate/workload.h"

namespace moegen {
namespace {

double mean_of_rest(const AnswerLengths& lengths, int limit) {
  constexpr int kRequests = 1000;
  return static_cast<double>(output_tokens(with_lengths(equal_requests(64, limit, kRequests), lengths))) / kRequests;
}

TEST(AnswerLengths, NearlyTheLimitWhereManyTokensEndedNoAnswer) {
  AnswerLengths lengths(512);
  for (int i = 0; i < 1024; ++i) lengths.add(100, false);
  EXPECT_NEAR(mean_of_rest(lengths, 512), 512, 0.05 * 512);
}

TEST(AnswerLengths, AnswersThatStillRunCount) {
  // 4,096 answers of 40 tokens on average at most 200 begin together; whenever one looks, the mean is the right one, though at first only
  // short ones have ended.
  std::mt19937 rng(1);
  std::geometric_distribution<int> tokens_before_last(1.0 / 40);
  std::vector<int> answers(4096);
  for (int& tokens : answers) tokens = 1 + tokens_before_last(rng);
  constexpr int kLimit = 200;
  for (int pass = 8; pass <= kLimit; pass += 8) {
    AnswerLengths lengths(kLimit);
    for (const int tokens : answers) lengths.add(std::min(tokens, pass), tokens <= pass);
    EXPECT_NEAR(mean_of_rest(lengths, kLimit), 39.7, 4) << pass;
  }
}

TEST(AnswerLengths, LimitsAndTheFirstTokenBoundIt) {
  AnswerLengths lengths(512);
  for (int i = 0; i < 1000; ++i) lengths.add(1, true);
  EXPECT_NEAR(mean_of_rest(lengths, 512), 1, 0.1);
  EXPECT_EQ(lengths.length(0, 0, 0.5), 0);
}

TEST(AnswerLengths, TheRestOfAJobHasItsPrompts) {
  AnswerLengths lengths(100);
  const Workload rest = with_lengths(equal_requests(64, 500, 30), lengths);
  ASSERT_EQ(rest.requests.size(), 30U);
  EXPECT_EQ(rest.requests[0].prompt_tokens, 64);
}

TEST(AnswerLengths, MedianOfAnExponentialWithManyCensored) {
  AnswerLengths lengths(1000);
  std::mt19937 random(3);
  std::exponential_distribution<double> length(1.0 / 200);
  for (int i = 0; i < 5000; ++i) {
    const auto tokens = 1 + static_cast<int64_t>(length(random));
    lengths.add(std::min<int64_t>(tokens, 150), tokens <= 150);  // nobody was seen beyond 150
  }
  EXPECT_NEAR(static_cast<double>(lengths.length(0, 100'000, 0.5)), 200 * std::log(2), 10);
  EXPECT_NEAR(static_cast<double>(lengths.length(500, 100'000, 0.5)), 500 + 200 * std::log(2), 25) << "beyond what was seen: as on the average";
  EXPECT_EQ(lengths.length(0, 64, 0.9), 64);
  EXPECT_EQ(lengths.length(64, 64, 0), 64);
}

}  // namespace
}  // namespace moegen
