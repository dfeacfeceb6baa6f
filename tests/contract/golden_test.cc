// Every golden checkpoint of tests/data/models: transformers computed the tokens and log-probabilities in float32
// (shared/data/models/README.md says how). In float32 every log-probability is within 2e-3; in bfloat16 within twice the
// distance that transformers' own bfloat16 has.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "device/gpu.h"
#include "kernels/functions.h"
#include "tests/support/errors.h"
#include "tests/support/run.h"

namespace moegen::testing {
namespace {

struct Case {
  std::string model;
  std::string dtype;
  std::string path;  // of the CPU; or what --device says
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.model << " " << c.dtype << " " << c.path; }

std::vector<std::string> all_paths() {
  std::vector<std::string> out{"emulated"};
  for (const Kernels* path : usable_kernels()) out.emplace_back(path->name);
  if (!find_gpus().gpus.empty()) out.emplace_back("cuda");
  return out;
}
bool is_device(const std::string& path) { return path == "emulated" || path == "cuda"; }

std::vector<Case> all_cases() {
  std::vector<Case> out;
  for (const auto& entry : std::filesystem::directory_iterator(kModels)) {
    for (const char* dtype : {"float32", "bfloat16"}) {
      for (const std::string& path : all_paths()) out.push_back({entry.path().filename().string(), dtype, path});
    }
  }
  std::sort(out.begin(), out.end(),
            [](const Case& a, const Case& b) { return std::tie(a.model, a.dtype, a.path) < std::tie(b.model, b.dtype, b.path); });
  return out;
}

class Golden : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Models, Golden, ::testing::ValuesIn(all_cases()),
                         [](const auto& c) { return c.param.model + "_" + c.param.dtype + "_" + c.param.path; });

// Tokens of the answer that are the golden ones, up to the first that is not.
size_t common_tokens(const nlohmann::json& want, const Completion& have) {
  const auto ids = want["generated_ids"].get<std::vector<TokenId>>();
  const auto& own = have.choices.at(0).token_ids;
  return static_cast<size_t>(std::mismatch(ids.begin(), ids.end(), own.begin(), own.end()).first - ids.begin());
}

// The largest distance of what the engine says of one case from the golden file, as long as both have the same tokens.
double distance(const nlohmann::json& want, const Completion& have) {
  double worst = 0;
  const Choice& choice = have.choices.at(0);
  for (size_t t = 0; t < common_tokens(want, have); ++t) {
    const auto& top = want["top5"][t];
    worst = std::max(worst, std::abs(top[0][1].get<double>() - choice.logprobs[t].token.logprob));
    for (const auto& best : top) {
      for (const TokenLogprob& x : choice.logprobs[t].top) {
        if (x.id == best[0].get<int>()) worst = std::max(worst, std::abs(best[1].get<double>() - x.logprob));
      }
    }
  }
  const auto& prompt = have.prompts.at(0).logprobs;
  EXPECT_EQ(prompt.size(), want["prompt_logprobs"].size() + 1);
  for (size_t i = 1; i < prompt.size(); ++i)
    worst = std::max(worst, std::abs(want["prompt_logprobs"][i - 1].get<double>() - prompt[i]->token.logprob));
  return worst;
}

// The answers to all cases of a golden file: "case0", "case1", ... and "eos".
std::map<std::string, Completion> answers(const nlohmann::json& golden, const EngineOptions& options) {
  std::vector<Request> requests;
  for (size_t i = 0; i < golden["cases"].size(); ++i) {
    const auto& g = golden["cases"][i];
    requests.push_back(
        greedy("case" + std::to_string(i), g["prompt_ids"].get<std::vector<TokenId>>(), static_cast<int64_t>(g["generated_ids"].size())));
    requests.back().sampling.logprobs = 5;
    requests.back().sampling.prompt_logprobs = 0;
  }
  requests.push_back(greedy("eos", golden["eos_case"]["prompt_ids"].get<std::vector<TokenId>>(), 64));
  requests.back().sampling.ignore_eos = false;
  Engine engine(options);
  ListJob job(requests);
  EXPECT_TRUE(engine.run(job, job));
  return std::move(job.answers);
}

TEST_P(Golden, TokensAndLogprobs) {
  const Case& c = GetParam();
  const auto golden = nlohmann::json::parse(read_text_file(kModels / c.model / "golden.json", 10 << 20));
  EngineOptions options = ids_only(kModels / c.model);
  options.dtype = c.dtype;
  (is_device(c.path) ? options.device : options.cpu_path) = c.path;
  if (is_device(c.path)) {
    options.max_model_len = 512;  // of which a sequence's pages have to fit the device
    options.max_num_seqs = 64;
  }
  const auto job_answers = answers(golden, options);

  double worst = 0;
  for (size_t i = 0; i < golden["cases"].size(); ++i) {
    const auto& g = golden["cases"][i];
    const Completion& have = job_answers.at("case" + std::to_string(i));
    ASSERT_FALSE(have.error) << have.error->message;
    EXPECT_EQ(have.choices.at(0).token_ids, g["generated_ids"].get<std::vector<TokenId>>()) << "case " << i;
    worst = std::max(worst, distance(g, have));
  }
  const double allowed = c.dtype == "float32" ? 2e-3 : 2 * golden["bf16_max_abs_diff"].get<double>();
  EXPECT_LE(worst, allowed);
  std::printf("%s: worst log-probability error %.6f, allowed %.4f\n", ::testing::UnitTest::GetInstance()->current_test_info()->name(), worst,
              allowed);
  const Choice& end = job_answers.at("eos").choices.at(0);
  EXPECT_EQ(end.token_ids, golden["eos_case"]["generated_ids"].get<std::vector<TokenId>>());
  EXPECT_EQ(end.finish_reason, FinishReason::stop);
}

// With KV in int8 the tokens are those of the model of a little different keys and values: they need not all be the golden ones, and their
// log-probabilities are off by no more than twice what bfloat16 is allowed.
TEST(GoldenInt8, LogprobsAreNear) {
  for (const auto& entry : std::filesystem::directory_iterator(kModels)) {
    const auto golden = nlohmann::json::parse(read_text_file(entry.path() / "golden.json", 10 << 20));
    EngineOptions options = ids_only(entry.path());
    options.dtype = "bfloat16";
    options.kv_dtype = "int8";
    if (entry.path().filename().string().starts_with("deepseek") || entry.path().filename() == "moonlight") {
      EXPECT_NE(std::string(error_of([&] { const Engine engine(options); }).what()).find("latent attention"), std::string::npos) << entry.path();
      continue;
    }
    const auto job_answers = answers(golden, options);
    double worst = 0;
    size_t same = 0, all = 0;
    for (size_t i = 0; i < golden["cases"].size(); ++i) {
      const Completion& have = job_answers.at("case" + std::to_string(i));
      ASSERT_FALSE(have.error) << have.error->message;
      worst = std::max(worst, distance(golden["cases"][i], have));
      same += common_tokens(golden["cases"][i], have);
      all += golden["cases"][i]["generated_ids"].size();
    }
    // SparseMixer leaves out an expert that is a hair beyond its threshold: a log-probability jumps where a rounding moves one over it.
    const double times = entry.path().filename() == "phimoe" ? 16 : 4;
    EXPECT_LE(worst, times * golden["bf16_max_abs_diff"].get<double>()) << entry.path();
    std::printf("%s, int8 KV: worst log-probability error %.4f, %zu of %zu tokens before the first other one of each case\n",
                entry.path().filename().c_str(), worst, same, all);
  }
}

}  // namespace
}  // namespace moegen::testing
