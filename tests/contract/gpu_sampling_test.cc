// Tokens and log-probabilities that a GPU finds out beside its logits: as on the CPU, whatever a request wants and whatever others want in the same
// step. On the emulation where there is no GPU.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "device/gpu.h"
#include "tests/support/run.h"

namespace moegen::testing {
namespace {

const std::string kDevice = find_gpus().gpus.empty() ? "emulated:1" : "cuda";

// From the summary of a row, from its candidates, from its logits, and which of these depends on the row.
const std::vector<std::function<void(SamplingParams&)>> kKinds{
    [](auto& s) { s.temperature = 0; },
    [](auto& s) { s.temperature = 0, s.logprobs = 20; },
    [](auto& s) { s.temperature = 0, s.prompt_logprobs = 20; },
    [](auto& s) { s.temperature = 0.8; },
    [](auto& s) { s.temperature = 1.3, s.logprobs = 5, s.prompt_logprobs = 3, s.seed = 7; },
    [](auto& s) { s.temperature = 1, s.n = 3, s.logprobs = 0; },
    [](auto& s) { s.top_k = 40, s.logprobs = 0, s.prompt_logprobs = 0; },
    [](auto& s) { s.top_k = 5, s.temperature = 0.7, s.logprobs = 7; },
    [](auto& s) { s.top_k = 150, s.logprobs = 1; },
    [](auto& s) { s.top_p = 0.3, s.logprobs = 1; },
    [](auto& s) { s.top_p = 0.7; },
    [](auto& s) { s.top_p = 0.999, s.logprobs = 3; },
    [](auto& s) { s.min_p = 0.3; },
    [](auto& s) { s.min_p = 0.001, s.logprobs = 2; },
    [](auto& s) { s.top_k = 30, s.top_p = 0.8, s.min_p = 0.01, s.logprobs = 2; },
    [](auto& s) { s.repetition_penalty = 1.2, s.temperature = 0.9, s.logprobs = 2, s.prompt_logprobs = 2; },
    [](auto& s) {
      s.temperature = 0, s.logit_bias = {{17, 3.0}}, s.logprobs = 2;
    },
    [](auto& s) { s.min_tokens = 4, s.ignore_eos = false, s.logprobs = 1; },
};

std::vector<Request> requests(int64_t max_tokens = 8) {
  std::vector<Request> out;
  for (size_t i = 0; i < kKinds.size(); ++i) {
    std::vector<TokenId> prompt;
    for (size_t t = 0; t < 3 + i % 5 * 4; ++t) prompt.push_back(static_cast<TokenId>(5 + (i * 37 + t * 11) % 260));
    out.push_back(greedy(fmt::format("r{}", i), prompt, max_tokens));
    out.back().sampling.temperature = 1;
    kKinds[i](out.back().sampling);
  }
  return out;
}

using Answers = std::map<std::string, Completion>;

Answers run(EngineOptions options, const std::string& device, std::vector<Request> list) {
  options.device = device;
  options.dtype = "float32";
  options.max_model_len = 256;
  Engine engine(options);
  ListJob job(std::move(list));
  EXPECT_TRUE(engine.run(job, job));
  return job.answers;
}

// Within `tolerance` where log-probabilities may differ, in every bit else.
void expect_same(const TokenLogprob& a, const TokenLogprob& b, double tolerance) {
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ(a.rank, b.rank);
  EXPECT_NEAR(static_cast<double>(a.logprob), static_cast<double>(b.logprob), tolerance);
}

void expect_same(const PositionLogprobs& a, const PositionLogprobs& b, double tolerance) {
  expect_same(a.token, b.token, tolerance);
  ASSERT_EQ(a.top.size(), b.top.size());
  for (size_t i = 0; i < a.top.size(); ++i) expect_same(a.top[i], b.top[i], tolerance);
}

void expect_same(const Answers& have, const Answers& want, double tolerance) {
  for (const auto& [id, a] : have) {
    SCOPED_TRACE(id);
    const Completion& b = want.at(id);
    ASSERT_FALSE(a.error) << a.error->message;
    ASSERT_EQ(a.choices.size(), b.choices.size());
    for (size_t c = 0; c < a.choices.size(); ++c) {
      ASSERT_EQ(a.choices[c].token_ids, b.choices[c].token_ids);
      ASSERT_EQ(a.choices[c].logprobs.size(), b.choices[c].logprobs.size());
      for (size_t i = 0; i < a.choices[c].logprobs.size(); ++i) expect_same(a.choices[c].logprobs[i], b.choices[c].logprobs[i], tolerance);
    }
    const auto &a_prompt = a.prompts.at(0).logprobs, &b_prompt = b.prompts.at(0).logprobs;
    ASSERT_EQ(a_prompt.size(), b_prompt.size());
    for (size_t i = 1; i < a_prompt.size(); ++i) expect_same(*a_prompt[i], *b_prompt[i], tolerance);
  }
}

class GpuSampling : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Models, GpuSampling, ::testing::Values("mixtral", "qwen2_moe", "deepseek_v2"), [](const auto& p) { return p.param; });

TEST_P(GpuSampling, AsOnTheCpu) {
  const EngineOptions options = ids_only(kModels / GetParam());
  expect_same(run(options, kDevice, requests()), run(options, "cpu", requests()), 2e-5);
}

TEST_P(GpuSampling, WhateverElseIsInTheStep) {
  const EngineOptions options = ids_only(kModels / GetParam());
  const Answers want = run(options, kDevice, requests(4));
  for (const size_t part : {0, 1, 2}) {
    std::vector<Request> list;
    for (size_t i = 0; i < kKinds.size(); ++i) {
      if (i % 3 == part) list.push_back(requests(4)[i]);
    }
    expect_same(run(options, kDevice, list), want, 0);
  }
}

// Grammars choose from whole rows beside others that do not, over more ids than there are candidates.
TEST(GpuSamplingOfText, AsOnTheCpu) {
  EngineOptions options = ids_only(kDemo);
  options.skip_tokenizer_init = false;
  using Kind = StructuredOutput::Kind;
  const std::vector<std::optional<StructuredOutput>> outputs{
      {}, StructuredOutput{Kind::regex, "[A-Z][a-z]{2,8}( [a-z]{1,5}){2}\\."}, {}, StructuredOutput{Kind::choice, R"(["light","darkness"])"}};
  std::vector<Request> list = requests(6);
  for (size_t i = 0; i < list.size(); ++i) {
    list[i].prompts = {std::string("In the beginning")};
    list[i].sampling.structured_output = outputs[i % outputs.size()];
    list[i].sampling.ignore_eos = false;
  }
  expect_same(run(options, kDevice, list), run(options, "cpu", list), 2e-5);
}

}  // namespace
}  // namespace moegen::testing
