#include "moegen/report.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <regex>
#include <sstream>

#include "batch/metrics.h"
#include "report/chart.h"
#include "report/history.h"
#include "tests/support/errors.h"
#include "tests/support/temp_dir.h"

namespace moegen {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kHostile = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">'\"&\xff\x01";

// What a job of so many passes writes: prompts first, then answers, then a tail; some waits for storage.
std::string metrics_of(int64_t passes, bool ended = true, double second = 1, int64_t former = 0) {
  std::string out;
  JobStatus s;
  s.former_answers = former;
  s.former_failed = former / 40;
  Progress& p = s.engine;
  p.kv_pages = 1000;
  for (int64_t i = 1; i <= passes; ++i) {
    const double at = static_cast<double>(i) / static_cast<double>(passes);
    p.passes = i;
    p.pass_seconds = second * (0.8 + 0.2 * std::sin(40 * at));
    p.seconds += second;
    p.pass_sequences = static_cast<int64_t>(1000 * std::min({1.0, 12 * at, 8 * (1 - at) + 0.02}));
    p.pass_prefill_tokens = static_cast<int64_t>(2000 * std::max(0.0, 0.9 - at) * (1 + std::sin(60 * at)));
    p.pass_tokens = p.pass_sequences + p.pass_prefill_tokens;
    p.prompt_tokens += p.pass_prefill_tokens;
    p.generated_tokens += p.pass_sequences;
    p.sequences_waiting = at < 0.8 ? 1000 : 0;
    p.pass_tokens_per_expert = static_cast<double>(p.pass_tokens) / 16;
    p.pass_experts_used = 0.97;
    p.pass_most_of_an_expert = p.pass_tokens / 6;
    p.pass_wait_seconds = 0.3 * p.pass_seconds * (1 + std::sin(17 * at)) / 2;
    p.pass_read_seconds = 0.7 * p.pass_seconds;
    p.measured += {p.pass_seconds, p.pass_seconds - p.pass_wait_seconds, p.pass_read_seconds, p.pass_wait_seconds, 0};
    p.pass_predicted_seconds = 0.75 * second;
    p.predicted += {p.pass_predicted_seconds, 0.6 * second, 0.5 * second, 0.15 * second, 0.2 * second};
    p.kv_pages_used = p.pass_sequences * 9 / 10;
    s.memory = (uint64_t{20} << 30) + static_cast<uint64_t>(at * 1e9);
    s.seconds = p.seconds;
    s.answered = i * 100 / passes * 15;
    s.failed = s.answered / 40;
    p.seconds_left = second * static_cast<double>(passes - i) * (1 + 0.1 * std::sin(9 * at));
    p.seconds_left_at = p.seconds;
    if (s.failed > 0) s.errors = {{kHostile, s.failed, kHostile, 17}, {"context_length_exceeded", s.failed / 3 + 1, "row-81", 82}};
    out += pass_metrics(s);
  }
  EngineInfo info;
  info.host_memory = uint64_t{24} << 30;
  info.planned_memory = uint64_t{22} << 30;
  info.pass_tokens = 4096;
  info.sequences = 1024;
  info.predicted_seconds = 0.9 * second * static_cast<double>(passes);
  info.screen = {{"model", kHostile}, {"plan", "passes of up to 4,096 tokens of 1,024 sequences"}};
  return ended ? out + summary_metrics(s, info, true) : out;
}

std::string page_of(const TempDir& dir, const std::string& metrics) {
  std::ostringstream out;
  write_report(dir.write("job.jsonl", metrics), "-", out);
  return out.str();
}

TEST(History, AHundredThousandPassesInBoundedMemoryWithTheSameSums) {
  const TempDir dir;
  const History h = read_history(dir.write("m.jsonl", metrics_of(100'000)));
  EXPECT_LE(h.intervals.size(), History::kMost);
  EXPECT_GE(h.intervals.size(), History::kMost / 2);
  double generated = 0;
  double passes = 0;
  double end = 0;
  for (const Interval& i : h.intervals) {
    EXPECT_GE(i.begin, end - 1e-6);
    end = i.end;
    generated += i.generated_tokens;
    passes += i.passes;
  }
  EXPECT_EQ(passes, 100'000);
  EXPECT_EQ(generated, h.generated_tokens);
  EXPECT_NEAR(end, 100'000, 1);
  EXPECT_EQ(h.answered, 1500);
}

TEST(History, RunsThatWereResumedFollowEachOther) {
  const TempDir dir;
  const History h = read_history(dir.write("m.jsonl", metrics_of(10, false) + metrics_of(20, true, 1, 1500)));
  EXPECT_EQ(h.passes, 30);
  EXPECT_EQ(h.resumed, std::vector<double>{10});
  EXPECT_EQ(h.answered, 3000);
  ASSERT_EQ(h.errors.size(), 2U);
  EXPECT_EQ(h.errors[0].count, 37 + 37);
  EXPECT_TRUE(h.summary && h.summary->finished);
  const History on = read_history(dir.write("m.jsonl", metrics_of(20) + metrics_of(10, false)));
  EXPECT_FALSE(on.summary) << "goes on";
}

// Each run says what was there before it: what a killed one answered and did not tell, and failed requests that are asked again, count once.
TEST(History, AnswersOfRunsThatWereKilledOrRetriedCountOnce) {
  const TempDir dir;
  JobStatus s;
  std::string text;
  for (const auto& [before, failed_before, answered, failed] : {std::array{0, 0, 60, 20}, {45, 0, 30, 20}, {100, 0, 20, 5}}) {
    s.former_answers = before;
    s.former_failed = failed_before;
    s.answered = answered;
    s.failed = failed;
    s.errors = {{"invalid_value", failed, "r3", 4}};
    s.engine.passes = 1;
    s.engine.seconds = 1;
    text += pass_metrics(s);
  }
  const History killed = read_history(dir.write("m.jsonl", text));
  EXPECT_EQ(killed.answered, 120);
  EXPECT_EQ(killed.failed, 5);
  ASSERT_EQ(killed.errors.size(), 1U);
  EXPECT_EQ(killed.errors[0].count, 5);
  const History ended = read_history(dir.write("m.jsonl", text + summary_metrics(s, {}, true)));
  EXPECT_EQ(ended.answered, 120);
  ASSERT_EQ(ended.errors.size(), 1U);
  EXPECT_EQ(ended.errors[0].first, "r3");
}

TEST(History, WhatIsWrongIsNamed) {
  const TempDir dir;
  const std::string good = metrics_of(2, false);
  const auto read = [&](const std::string& text) { return read_history(dir.write("m.jsonl", text)); };
  EXPECT_EQ(read(good + "{\"passes\":3,\"sec").passes, 2) << "a torn last line";
  EXPECT_ERROR(read(good + "{\"passes\":3,\"sec\n" + good), ErrorCode::corrupt, "m.jsonl: line 3");
  EXPECT_ERROR(read(good + "{\"passes\":\"x\"}\n"), ErrorCode::corrupt, "line 3: passes: expected a number, found string");
  EXPECT_ERROR(read(good + "{\"passes\":1e99,\"seconds\":1}\n"), ErrorCode::corrupt, "out of range");
  EXPECT_ERROR(read(good + "[1]\n"), ErrorCode::corrupt, "line 3: expected an object");
  EXPECT_ERROR(read("{\"a\":1}\n"), ErrorCode::corrupt, "no passes in it");
  EXPECT_ERROR(read(""), ErrorCode::corrupt, "no passes in it");
  EXPECT_ERROR(read_history(dir.path() / "none"), ErrorCode::not_found, "cannot open");
}

TEST(Report, HasEveryPartAndNothingFromElsewhere) {
  const TempDir dir;
  for (const int64_t passes : {1, 10, 100'000}) {
    const std::string page = page_of(dir, metrics_of(passes));
    for (const char* part : {"Throughput", "Batch occupancy", "Tokens per expert", "Resource use", "Memory", "Predicted against measured",
                             "Estimated end", "Errors by kind", "context_length_exceeded", "row-81", "finished"})
      EXPECT_THAT(page, HasSubstr(part)) << passes;
    EXPECT_LT(page.size(), 400'000U) << passes;
    EXPECT_FALSE(std::regex_search(page, std::regex("https?:|src=(?!x)|href=|url\\("))) << "loads nothing";
    EXPECT_THAT(page, Not(HasSubstr("nan")));
  }
  EXPECT_THAT(page_of(dir, metrics_of(5, false)), HasSubstr("goes on, or was killed"));
}

TEST(Report, HostileTextsAreText) {
  const TempDir dir;
  const std::string page = page_of(dir, metrics_of(10));
  EXPECT_THAT(page, AllOf(Not(HasSubstr("<img")), Not(HasSubstr("<script>document")), HasSubstr("&lt;img src=x onerror=&quot;")));
  EXPECT_EQ(escaped("<a b='c\">&\x01"), "&lt;a b=&#39;c&quot;&gt;&amp; ");
}

TEST(Report, NumbersAreReadable) {
  EXPECT_EQ(unit_text(0, Unit::count), "0");
  EXPECT_EQ(unit_text(1234, Unit::count), "1.23k");
  EXPECT_EQ(unit_text(2.5e9, Unit::count), "2.5G");
  EXPECT_EQ(unit_text(uint64_t{3} << 30, Unit::bytes), "3 GiB");
  EXPECT_EQ(unit_text(0.25, Unit::seconds), "250 ms");
  EXPECT_EQ(unit_text(5400, Unit::seconds), "90 min");
  EXPECT_EQ(unit_text(42.4, Unit::percent), "42 %");
}

TEST(Report, IsNotWrittenOverItsMetrics) {
  const TempDir dir;
  const auto file = dir.write("m.jsonl", metrics_of(2));
  std::ostringstream none;
  EXPECT_ERROR((write_report(file, file, none), 0), ErrorCode::invalid_argument, "same file");
  EXPECT_ERROR((write_report(file, dir.path() / "no/x.html", none), 0), ErrorCode::io, "cannot write");
}

// In a real browser: the page's own script runs, and nothing else does.
TEST(Report, ChromiumShowsIt) {
  if (std::system("command -v chromium > /dev/null") != 0) GTEST_SKIP() << "there is no chromium here (apt-get install chromium)";
  const TempDir dir;
  dir.write("page.html", page_of(dir, metrics_of(3000)));
  const std::string at = dir.path().string();
  const std::string command = fmt::format(
      "chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir={0}/profile --host-resolver-rules='MAP * ~NOTFOUND' "
      "--enable-logging=stderr "
      "--window-size=1360,1900 --timeout=20000 {1} file://{0}/page.html > {0}/dom 2> {0}/log",
      at, "--dump-dom");
  ASSERT_EQ(std::system(command.c_str()), 0);
  std::ostringstream dom;
  dom << std::ifstream(dir.path() / "dom").rdbuf();
  std::ostringstream log;
  log << std::ifstream(dir.path() / "log").rdbuf();
  const std::string text = dom.str();
  const std::regex tips("<div class=\"tip\">");
  EXPECT_EQ(std::distance(std::sregex_iterator(text.begin(), text.end(), tips), {}), 8) << "the script ran in every figure";
  EXPECT_THAT(text, AllOf(HasSubstr("<title>moegen: job.jsonl</title>"), Not(HasSubstr("<img"))));
  EXPECT_THAT(log.str(), AllOf(Not(HasSubstr("Refused to")), Not(HasSubstr("CONSOLE")))) << "no complaint of the policy";
}

}  // namespace
}  // namespace moegen
