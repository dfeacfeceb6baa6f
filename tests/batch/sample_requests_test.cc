// What a plan is told about a file of requests.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "batch/line_sample.h"
#include "moegen/prompt_counter.h"
#include "tests/batch/scripted_engine.h"

namespace moegen::testing {
namespace {

constexpr int64_t kAll = std::numeric_limits<int64_t>::max();

std::string ids_text(int id, int tokens, int max_tokens) {
  return request_text(std::to_string(id), Json{{"prompt", std::vector<int>(static_cast<size_t>(tokens), 5)}, {"max_tokens", max_tokens}}.dump()) +
         "\n";
}

int64_t tokens_of(const Workload& workload) {
  int64_t sum = 0;
  for (const RequestLength& r : workload.requests) sum += r.prompt_tokens;
  return sum;
}

class SampleRequests : public ::testing::Test {
 protected:
  Workload sample() const { return sample_requests(options, "m", nullptr); }

  Scratch scratch;
  BatchOptions options = options_for(scratch);
};

// Short lines, then long ones: neither their number nor their lengths are those of the first 2,000.
TEST_F(SampleRequests, LinesAreCountedAndLookedAtAllOverTheFile) {
  std::string text;
  for (int i = 0; i < 3000; ++i) text += ids_text(i, 1, 1) + "\n";
  for (int i = 3000; i < 6000; ++i) text += ids_text(i, 400, 1);
  write_file(options.input, text);
  const Workload all = sample();
  EXPECT_TRUE(all.complete);
  EXPECT_EQ(all.requests.size(), 6000U);
  EXPECT_EQ(tokens_of(all), 3000 * 401);
  options.limit = 4000;
  EXPECT_EQ(sample().requests.size(), 4000U);
  EXPECT_EQ(tokens_of(sample()), 3000 + 1000 * 400);
  gzFile file = ::gzopen(options.input.c_str(), "wb");
  ::gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  ::gzclose(file);
  EXPECT_EQ(tokens_of(sample()), 3000 + 1000 * 400);
  options.limit.reset();
  EXPECT_EQ(tokens_of(sample()), 3000 * 401);
}

TEST_F(SampleRequests, ALargeFileIsReadInParts) {
  const int64_t bytes = int64_t{300} << 20;
  std::ofstream file(options.input, std::ios::binary);
  const std::string line = std::string(1023, 'x') + "\n";
  int64_t lines = 0;
  for (int64_t at = 0; at < bytes; at += static_cast<int64_t>(line.size()) * (at < bytes / 2 ? 1 : 4), ++lines)
    file << (at < bytes / 2 ? line : std::string(4095, 'y') + "\n");
  file.close();
  const LineSample sample(options.input, kAll);
  EXPECT_NEAR(static_cast<double>(sample.num_lines()), static_cast<double>(lines), 0.02 * static_cast<double>(lines));
  int64_t chosen = 0;
  int64_t longer = 0;
  sample.each([&](const Line& l) {
    ++chosen;
    EXPECT_EQ(l.number, 0);
    EXPECT_EQ(l.text.find_first_not_of(l.text[0]), std::string::npos);
    EXPECT_EQ(l.text.size(), l.text[0] == 'x' ? 1023U : 4095U) << "no half lines";
    if (l.text[0] == 'y') ++longer;
  });
  EXPECT_THAT(chosen, ::testing::AllOf(::testing::Gt(1000), ::testing::Le(2000)));
  EXPECT_NEAR(static_cast<double>(longer) / static_cast<double>(chosen), 0.2, 0.02);
}

TEST_F(SampleRequests, AFileWithoutLineFeedsEnds) {
  write_file(options.input, std::string(size_t{3} << 20, 'x'));
  int looks = 0;
  const LineSample sample(options.input, kAll);
  sample.each([&](const Line& line) {
    EXPECT_TRUE(line.too_long);
    ++looks;
  });
  EXPECT_EQ(sample.num_lines(), 1);
  EXPECT_EQ(looks, 1);
}

TEST_F(SampleRequests, OfAPipeNothingIsKnown) {
  options.input = "-";
  EXPECT_FALSE(sample().complete);
  write_file(options.input = scratch.path("in"), "");
  EXPECT_TRUE(sample().complete);
  EXPECT_TRUE(sample().requests.empty());
}

// Each character as it is, and escaped.
TEST_F(SampleRequests, WithoutATokenizerOtherScriptsHaveATokenACharacter) {
  for (const char* text : {"起初神創造天地", "\\u8d77\\u521d\\u795e\\u5275\\u9020\\u5929\\u5730"}) {
    write_file(options.input,
               request_text("a", std::string(R"({"messages":[{"role":"user","content":")") + text + R"("}]})", "/v1/chat/completions"));
    EXPECT_THAT(tokens_of(sample()), ::testing::AllOf(::testing::Ge(14), ::testing::Le(24))) << "7, and what is around";
  }
}

class Counted : public SampleRequests {
 protected:
  static EngineOptions engine() {
    EngineOptions out;
    out.model = std::filesystem::path(MOEGEN_SOURCE_DIR) / "examples/kjv-moe";
    return out;
  }
  Workload counted(const PromptCounter& counter) const { return sample_requests(options, "kjv-moe", &counter); }
};

TEST_F(Counted, TextsAreAsLongAsTheTokenizerSays) {
  const PromptCounter counter(engine());
  std::string text;
  for (int i = 0; i < 200; ++i) text += "起初神創造天地";
  const auto whole = counter.count(Prompt(text.substr(0, 21)));  // short enough to be counted
  ASSERT_TRUE(whole);
  EXPECT_EQ(*whole, 21) << "its bytes";
  EXPECT_FALSE(counter.count(Prompt(text))) << "of 4,200";
  EngineOptions longer = engine();
  longer.max_model_len = 50;
  EXPECT_FALSE(PromptCounter(longer).count(Prompt(text.substr(0, 51))));
  const std::string english = "In the beginning God created the heaven and the earth. ";
  const double one = static_cast<double>(*counter.count(Prompt(english)));
  std::string hundred;
  for (int i = 0; i < 100; ++i) hundred += english;
  EXPECT_NEAR(static_cast<double>(*counter.count(Prompt(hundred))), 100 * one, 3 * one);
}

// They take no time, and what goes beyond the context ends there.
TEST_F(Counted, WhatIsRefusedIsNoWork) {
  const PromptCounter counter(engine());
  write_file(options.input, ids_text(1, 100, 10) + ids_text(2, 3000, 10) + ids_text(3, 2000, 1000) + request_text("x", "{}") + "\n");
  const Workload workload = counted(counter);
  ASSERT_EQ(workload.requests.size(), 2U);
  EXPECT_EQ(workload.requests[0].output_tokens, 10);
  EXPECT_EQ(workload.requests[1].output_tokens, 48);
}

TEST_F(SampleRequests, WhatIsAnsweredIsNoWork) {
  std::string text;
  for (int i = 0; i < 3; ++i) text += ids_text(i, 10 + i, 2);
  write_file(options.input, text);
  ASSERT_EQ(run_job(options), 0);
  text += ids_text(3, 70, 2);
  write_file(options.input, text);
  options.resume = true;
  Workload left = Job(options).workload("m", nullptr);
  ASSERT_EQ(left.requests.size(), 1U);
  EXPECT_EQ(left.requests[0].prompt_tokens, 70);
  ASSERT_EQ(run_job(options), 0);
  left = Job(options).workload("m", nullptr);
  EXPECT_TRUE(left.requests.empty());
  EXPECT_TRUE(left.complete);
  for (int i = 4; i < 5000; ++i) text += ids_text(i, 70, 2);
  write_file(options.input, text);
  EXPECT_EQ(Job(options).workload("m", nullptr).requests.size(), 4996U) << "of which not all are looked at";
  options.resume = false;
  EXPECT_EQ(Job(options).workload("m", nullptr).requests.size(), 5000U);
}

}  // namespace
}  // namespace moegen::testing
