#include "batch/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "batch/summary.h"
#include "moegen/error.h"
#include "tests/batch/scripted_engine.h"

namespace moegen::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// After 20 s, and as it was after 10.
ProgressView view() {
  ProgressView v;
  v.before.engine.seconds = 10;
  v.now.seconds = 20;
  v.now.answered = 50;
  v.now.skipped = 10;
  v.now.failed = 3;
  v.now.total = 160;
  v.now.memory = uint64_t{3} << 29;
  v.now.engine.seconds = 20;
  v.now.engine.passes = 2;
  v.now.engine.prompt_tokens = 1000;
  v.now.engine.generated_tokens = 500;
  v.now.engine.sequences_running = 8;
  v.now.engine.measured = {9, 9, 0, 0, 0};
  v.now.engine.seconds_left = 200;
  v.now.engine.seconds_left_at = 15;
  v.num_layers = 48;
  v.input = "stdin";
  v.output = "out.jsonl";
  return v;
}

TEST(Progress, TextSaysHowFarHowFastAndHowLong) {
  EXPECT_EQ(status_text(view()),
            "60 of 160 done, 3 failed, 20s gone, about 3m15s left, 100 tokens/s in, 50 out, 8 running, bottleneck the cores, memory 1.5 GiB");
  ProgressView v = view();
  v.now.engine.measured = {9, 5, 9, 4, 0};
  EXPECT_THAT(status_text(v), HasSubstr("bottleneck storage"));
  v.now.engine.measured = {9, 9, 0, 0, 0};
  v.now.engine.predicted = {9, 8, 0, 0, 6};
  EXPECT_THAT(status_text(v), HasSubstr("bottleneck DRAM"));
  v.now.engine.measured = {1, 1, 0, 0, 0};
  EXPECT_THAT(status_text(v), HasSubstr("bottleneck input and output"));
  v.now.engine.seconds_left.reset();
  EXPECT_THAT(status_text(v), HasSubstr("time left not known yet"));
  v.now.total.reset();
  EXPECT_THAT(status_text(v), AllOf(HasSubstr("60 done,"), HasSubstr("time left not known: the end of the input is not")));
  v.now.engine.passes = 0;
  v.predicted_seconds = 7200;
  EXPECT_THAT(status_text(v), HasSubstr("planned to take 2h00m"));
}

TEST(Progress, TextSaysWhyNothingMoves) {
  ProgressView v = view();
  EXPECT_EQ(stall_text(v), "");
  v.step = Step::reading;
  v.step_seconds = 42;
  EXPECT_EQ(stall_text(v), "waiting for stdin to give a request for 42s");
  v.step = Step::writing;
  EXPECT_EQ(stall_text(v), "waiting for out.jsonl to take answers for 42s");
  EXPECT_THAT(status_text(v), HasSubstr("about 3m20s left without waiting"));
  v.step = Step::engine;
  v.pass_seconds = 61;
  v.activity = Activity{true, 4, false};
  EXPECT_EQ(stall_text(v), "pass 3 has run for 1m01s, layer 5 of 48");
  v.activity->waits_for_storage = true;
  v.now.engine.passes = 0;
  EXPECT_EQ(stall_text(v), "the first pass has run for 1m01s, layer 5 of 48, waiting for weights from storage");
  v.activity->in_pass = false;
  EXPECT_EQ(stall_text(v), "no pass has ended for 1m01s");
  EXPECT_THAT(status_text(v), HasSubstr("left, no pass has ended for 1m01s, "));
}

TEST(Progress, TimeLeftRunsDownBetweenTwoLooks) {
  JobStatus s;
  EXPECT_FALSE(s.seconds_left());
  s.engine.seconds_left = 10;
  s.engine.seconds_left_at = 5;
  s.seconds = 8;
  EXPECT_EQ(s.seconds_left(), 7);
  s.seconds = 100;
  EXPECT_EQ(s.seconds_left(), 0);
}

TEST(Progress, Durations) {
  EXPECT_EQ(duration_text(42), "42s");
  EXPECT_EQ(duration_text(200), "3m20s");
  EXPECT_EQ(duration_text(5 * 3600 + 180), "5h03m");
  EXPECT_EQ(duration_text(74 * 3600), "3d02h");
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
    ProgressReport report({.style = ProgressStyle::plain,
                           .input = scratch.path("in"),
                           .output = "-",
                           .limit = {},
                           .interval = std::chrono::milliseconds(5),
                           .info = {},
                           .activity = {},
                           .prometheus_file = {}});
    report.at(Step::reading);
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    EXPECT_EQ(report.total(), 3);
  }
  const std::string text = ::testing::internal::GetCapturedStderr();
  EXPECT_GT(std::count(text.begin(), text.end(), '\n'), 2);
  EXPECT_THAT(text, HasSubstr("0 of 3 done"));
}

TEST(Summary, SaysWhatWasSlowestWhatWasPredictedAndWhereErrorsAre) {
  JobStatus s = view().now;
  s.engine.predicted = {6, 6, 0, 0, 1};
  s.engine.tail_seconds = 5;
  s.errors = {{"context_length_exceeded", 2, "r17", 18}, {"invalid_json", 1, "", 5}};
  EngineInfo info;
  info.predicted_seconds = 25;
  info.planned_memory = uint64_t{2} << 30;
  s.skipped = 0;
  const auto joined = [](const std::vector<std::string>& lines) {
    std::string text;
    for (const std::string& line : lines) text += line + "\n";
    return text;
  };
  EXPECT_EQ(
      joined(summary_lines(s, info, true, "out.jsonl")),
      "done: 50 requests answered in 20.0 s, 3 of them with an error\n"
      "  tokens    1000 prompt tokens (50/s), 500 generated (25/s), in 2 passes\n"
      "  slowest   input and output: the cores computed for 45 % of the time; 25 % of the time in the tail, with less than half of the sequences\n"
      "  time      passes took 9.0s, predicted 6.0s (+50 %); the job took 20s, planned at most 25s (-20 %)\n"
      "            the cores 9.0s, predicted 6.0s (+50 %); DRAM alone, predicted 1.0s\n"
      "  memory    1.5 GiB at the end, 2.0 GiB planned\n"
      "  errors    2 x context_length_exceeded, first: custom_id r17, line 18\n"
      "            1 x invalid_json, first: line 5\n"
      "  answers   out.jsonl\n");
  s.skipped = 10;
  s.engine.measured = {19, 10, 15, 9, 0};
  s.engine.predicted = {0.0354, 10, 14, 8, 0.5};
  s.engine.weight_bytes_read = 3'000'000'000;
  s.engine.weight_read_seconds = 15;
  s.engine.weight_wait_seconds = 9;
  const std::string text = joined(summary_lines(s, info, false, "out.jsonl"));
  EXPECT_THAT(
      text, AllOf(HasSubstr("interrupted: 50"), HasSubstr("10 were answered before"), HasSubstr("go on with --resume"),
                  HasSubstr("storage: the cores computed for 50 % of the time and waited 45 % for weights; 3.0 GB of weights streamed at 0.20 GB/s"),
                  HasSubstr("predicted 0.035s"), HasSubstr("; storage 15s, predicted 14s (+7 %); waits for it 9.0s, predicted 8.0s (+12 %)"),
                  Not(HasSubstr("planned at most"))));
}

}  // namespace
}  // namespace moegen::testing
