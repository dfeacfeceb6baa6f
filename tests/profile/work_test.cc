// Work that is measured: what it counts, with sizes so small that its time means nothing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "profile/attention_work.h"
#include "profile/gemm_work.h"
#include "profile/sampling.h"
#include "tests/support/errors.h"

namespace moegen {
namespace {

class WorkTest : public ::testing::Test {
 protected:
  ThreadPool pool_{2};
  MappedMemory memory_ = random_memory(1 << 20, pool_);
  Workbench bench_{reference_kernels(), pool_, DType::bf16, DType::bf16, memory_};
};

TEST(Rate, IsTheMedianWithItsRange) {
  const Rate odd = rate_of({3, 1, 2});
  EXPECT_EQ(odd.median, 2);
  EXPECT_EQ(odd.low, 1);
  EXPECT_EQ(odd.high, 3);
  EXPECT_NEAR(odd.noise, (2.8 - 1.2) / 2, 1e-12);
  EXPECT_EQ(rate_of({4, 1, 2, 3}).median, 2.5);
  EXPECT_EQ(rate_of({7}).noise, 0);
}

TEST(Sampling, RoundsToFourDigits) {
  EXPECT_EQ(rounded(123456789), 123500000);
  EXPECT_EQ(rounded(0.0123449), 0.01234);
  EXPECT_EQ(rounded(0), 0);
}

TEST(Sampling, LeavesOutWhatTakesTooLong) {
  std::vector<double> asked;
  const auto point = [&](double x) {
    return Sampled{x, [&asked, x] {
                     asked.push_back(x);
                     const double seconds = seconds_of([x] { std::this_thread::sleep_for(std::chrono::duration<double>(x * 1e-3)); });
                     return x / seconds;
                   }};
  };
  const Curve curve = sample_curve({point(1), point(30), point(1000)}, {.rounds = 2, .seconds = 0.2});
  ASSERT_EQ(curve.points.size(), 2U);
  EXPECT_EQ(curve.points[1].x, 30);
  EXPECT_GE(asked.size(), 4U);
  EXPECT_EQ(std::count(asked.begin(), asked.end(), 1000), 0);
}

TEST_F(WorkTest, AttentionCountsKeysSeenAndBytesOnce) {
  AttentionWork decode({4, 2, 16}, {3, 1, 33}, DType::bf16, bench_);
  for (int i = 0; i < 200; ++i) {  // through all pages and on
    const Work work = decode.run();
    EXPECT_EQ(work.flops, 3 * 33 * 4 * 4 * 16);
    EXPECT_EQ(work.bytes, 3 * 33 * 2 * 2 * 16 * 2);
  }
  EXPECT_EQ(AttentionWork({4, 2, 16}, {1, 40, 40}, DType::i8, bench_).run().flops, 40 * 41 / 2 * 4 * 4 * 16);
  AttentionWork latent({4, 1, 24, 16}, {3, 1, 33}, DType::bf16, bench_);
  EXPECT_EQ(latent.run().flops, 3 * 33 * 2 * 4 * (24 + 16));
  EXPECT_EQ(latent.run().bytes, 3 * 33 * 24 * 2) << "keys alone";
  AttentionWork prompt({4, 1, 24, 16, 12, 10}, {2, 40, 70}, DType::bf16, bench_);
  EXPECT_EQ(prompt.run().flops, 2 * (40 * 70 - 40 * 39 / 2) * 2.0 * 4 * (12 + 8 + 10) + 2 * 70 * 2.0 * 4 * 16 * (12 + 10)) << "in the expanded form";
  AttentionWork longer({4, 2, 16}, {1, 1, 1 << 18}, DType::bf16, bench_);  // than there are pages
  longer.run();
}

TEST_F(WorkTest, AttentionThroughAWindowCountsWhatIsSeen) {
  AttentionWork decode({4, 2, 16}, {3, 1, 333, 50}, DType::bf16, bench_);
  EXPECT_EQ(decode.run().flops, 3 * 50 * 4 * 4 * 16);
  EXPECT_EQ(decode.run().bytes, 3 * 50 * 2 * 2 * 16 * 2);
  AttentionWork prompt({4, 2, 16}, {1, 40, 40, 10}, DType::bf16, bench_);
  EXPECT_EQ(prompt.run().flops, (10 * 11 / 2 + 30 * 10) * 4 * 4 * 16);
  EXPECT_EQ(prompt.run().bytes, 40 * 2 * 2 * 16 * 2);
  EXPECT_EQ(AttentionWork({4, 2, 16}, {1, 20, 40, 10}, DType::bf16, bench_).run().bytes, 29 * 2 * 2 * 16 * 2);
}

TEST_F(WorkTest, MlpsCountTheirMicroBatch) {
  MlpWork work(64, 96, 700, bench_);
  const Work one = work.run(700);  // one expert of three matrices
  EXPECT_EQ(one.flops, 6.0 * 64 * 96 * 700);
  EXPECT_EQ(one.bytes, 3.0 * 64 * 96 * 2);
  const Work many = work.run(100);
  EXPECT_EQ(many.flops, 10 * 6.0 * 64 * 96 * 100);
  EXPECT_ERROR(MlpWork(4096, 4096, 1, bench_), ErrorCode::invalid_argument, "--memory 1.0 MiB");
}

// As many as are asked for in the mean of each call, in other sums each time.
TEST_F(WorkTest, RoutedExpertsHaveUnevenNumbersOfTokens) {
  constexpr double kToken = 6.0 * 64 * 96, kExpert = 3.0 * 64 * 96 * 2;
  MlpWork work(64, 96, 700, bench_);
  for (const int64_t tokens : {100, 300}) {
    for (int i = 0; i < 20; ++i) {
      const Work calls = work.run_routed(tokens);
      EXPECT_NEAR(calls.flops / kToken, static_cast<double>(tokens) * calls.bytes / kExpert, 1e-6);
      EXPECT_EQ(std::fmod(calls.bytes / kExpert, 2), 0) << "pairs";
    }
  }
  EXPECT_EQ(work.run_routed(8).flops, std::min(128.0, work.run(8).bytes / kExpert) * 8 * kToken) << "few rows: the weights count";
  EXPECT_LE(work.run_routed(700).flops, 2 * 700 * kToken) << "never more than it was made for";
}

TEST_F(WorkTest, LinearsTakeTurnsThroughTheMemory) {
  LinearWork work(300, 500, 5, bench_);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(work.run(5).flops, 2.0 * 300 * 500 * 5);
  EXPECT_EQ(work.run(1).bytes, 2.0 * 300 * 500);
  EXPECT_ERROR(LinearWork(4096, 4096, 1, bench_), ErrorCode::invalid_argument, "--memory 1.0 MiB");
}

}  // namespace
}  // namespace moegen
