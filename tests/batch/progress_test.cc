#include "batch/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moegen/error.h"
#include "tests/batch/scripted_engine.h"

namespace moegen::testing {
namespace {

TEST(Progress, TextSaysHowFarAndHowFast) {
  JobStatus before;
  before.seconds = 10;
  JobStatus now;
  now.seconds = 20;
  now.answered = 50;
  now.skipped = 10;
  now.failed = 3;
  now.total = 160;
  now.engine.prompt_tokens = 1000;
  now.engine.generated_tokens = 500;
  now.engine.sequences_running = 8;
  now.engine.kv_pages_used = 4;
  now.engine.kv_pages = 9;
  EXPECT_EQ(status_text(now, before), "60 of 160 done, 3 failed, 100 tokens/s in, 50 out, 8 running, KV 4 of 9 pages, 20s, 40s left");
  EXPECT_THAT(status_text(now, now), ::testing::HasSubstr("0 tokens/s in")) << "stalled";
}

TEST(Progress, Styles) {
  EXPECT_EQ(progress_style("none"), ProgressStyle::none);
  EXPECT_THROW(progress_style("loud"), Error);
}

TEST(Progress, AStalledJobStillReportsAndLinesAreCounted) {
  const Scratch scratch;
  write_file(scratch.path("in"), "a\n\n  \nb\nc");
  ::testing::internal::CaptureStderr();
  {
    const ProgressReport report({.style = ProgressStyle::plain, .input = scratch.path("in"), .limit = {}, .interval = std::chrono::milliseconds(5)});
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
  }
  const std::string text = ::testing::internal::GetCapturedStderr();
  EXPECT_GT(std::count(text.begin(), text.end(), '\n'), 2);
  EXPECT_THAT(text, ::testing::HasSubstr("0 of 3 done"));
}

}  // namespace
}  // namespace moegen::testing
