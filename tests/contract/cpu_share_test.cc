// What the CPU takes of a pass on a GPU (experts with few tokens, attention of generated tokens): the same answers within what backends may differ
// by, and the same bits for the same plan, whatever the order in which streams run.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "api/model.h"
#include "device/gpu.h"
#include "tests/support/errors.h"
#include "tests/support/run.h"

namespace moegen::testing {
namespace {

const std::filesystem::path kMachines = std::filesystem::path(MOEGEN_SOURCE_DIR) / "benchmarks/simulation/machines";

std::vector<Request> requests() {
  std::mt19937 rng(9);
  std::vector<Request> out;
  for (int i = 0; i < 8; ++i) {
    std::vector<TokenId> prompt;
    for (size_t n = std::vector<size_t>{1, 7, 33, 64, 90}[static_cast<size_t>(i) % 5]; n > 0; --n)
      prompt.push_back(static_cast<TokenId>(5 + rng() % 260));
    Request r = greedy(fmt::format("r{}", i), prompt, 6 + 3 * i);
    r.sampling.logprobs = 1;
    r.sampling.prompt_logprobs = 0;
    out.push_back(r);
  }
  return out;
}

// Every token's log-probability, prompts first.
using Logprobs = std::map<std::string, std::pair<std::vector<TokenId>, std::vector<float>>>;

Logprobs run(const EngineOptions& options, std::vector<Request> list = requests(), Progress* progress = nullptr) {
  Engine engine(options);
  ListJob job(std::move(list));
  EXPECT_TRUE(engine.run(job, job));
  if (progress != nullptr) *progress = job.progress;
  Logprobs out;
  for (const auto& [id, completion] : job.answers) {
    EXPECT_FALSE(completion.error) << completion.error->message;
    auto& [ids, logprobs] = out[id];
    for (const auto& l : completion.prompts.at(0).logprobs) logprobs.push_back(l ? l->token.logprob : 0);
    for (const auto& l : completion.choices.at(0).logprobs) logprobs.push_back(l.token.logprob);
    ids = completion.choices.at(0).token_ids;
  }
  return out;
}

// The tokens are equal, and the log-probabilities almost: by how much they differ at most.
double difference(const Logprobs& a, const Logprobs& b) {
  double most = 0;
  for (const auto& [id, one] : a) {
    EXPECT_EQ(one.first, b.at(id).first) << id;
    if (one.first != b.at(id).first) continue;
    for (size_t i = 0; i < one.second.size(); ++i)
      most = std::max(most, std::abs(static_cast<double>(one.second[i]) - static_cast<double>(b.at(id).second[i])));
  }
  return most;
}

class CpuShareOfAGpu : public ::testing::TestWithParam<std::string> {
 protected:
  static EngineOptions options(int seed = 1) {
    EngineOptions o = ids_only(kModels / GetParam());
    o.dtype = "float32";
    o.device = find_gpus().gpus.empty() ? fmt::format("emulated:{}", seed) : "cuda";
    o.max_model_len = 256;
    o.max_num_seqs = 64;
    return o;
  }
  // As few experts on the device as can be.
  static EngineOptions streaming(int seed = 1) {
    EngineOptions o = options(seed);
    o.max_pass_tokens = 64;
    o.cpu_expert_tokens = 1000;
    o.device_memory = 1;
    const std::string text = error_of([&] { const Engine engine(o); }).what();
    o.device_memory = std::stoull(text.substr(text.find(" (") + 2));
    return o;
  }
  static constexpr double kTolerance = 2e-5;
};
INSTANTIATE_TEST_SUITE_P(Models, CpuShareOfAGpu,
                         ::testing::Values("mixtral", "qwen3_moe", "deepseek_v2", "gpt_oss_mxfp4", "olmoe", "phimoe", "llama4_text", "gemma4",
                                           "qwen3_5_moe"),
                         [](const auto& p) { return p.param; });

TEST_P(CpuShareOfAGpu, Experts) {
  EngineOptions o = streaming();
  const ModelSetup setup(o);
  ASSERT_TRUE(setup.plan.gpu->cpu_experts.any());
  const Logprobs all_on_cpu = run(o);
  EXPECT_TRUE(run(streaming(2)) == all_on_cpu) << "another order of streams";
  o.cpu_expert_tokens = 3;
  const Logprobs some_on_cpu = run(o);
  o.cpu_expert_tokens = 0;
  const Logprobs none_on_cpu = run(o);
  EXPECT_LE(difference(all_on_cpu, none_on_cpu), kTolerance);
  EXPECT_LE(difference(some_on_cpu, none_on_cpu), kTolerance);
  EXPECT_FALSE(all_on_cpu == none_on_cpu) << "the CPU's kernels have the same bits: nothing ran there?";
  EXPECT_FALSE(some_on_cpu == all_on_cpu);
}

TEST_P(CpuShareOfAGpu, Attention) {
  EngineOptions o = options();
  const Logprobs none = run(o);
  o.cpu_attention_share = 1;
  const Logprobs all = run(o);
  o.cpu_attention_share = 0.5;
  const Logprobs half = run(o);
  EXPECT_LE(difference(all, none), kTolerance);
  EXPECT_LE(difference(half, none), kTolerance);
  int of_none = 0, of_all = 0;
  for (const auto& [id, answer] : half) {
    of_none += answer == none.at(id) ? 1 : 0;
    of_all += answer == all.at(id) ? 1 : 0;
    EXPECT_TRUE(answer == none.at(id) || answer == all.at(id)) << id << ": a sequence attends in one place";
  }
  EXPECT_GT(of_none, 1);
  EXPECT_GT(of_all, 1);
}

// Its bits are other ones, so a job is not resumed with another share by mistake.
TEST_P(CpuShareOfAGpu, AnotherShareIsAnotherSetting) {
  EngineOptions o = options();
  o.cpu_attention_share = 0.5;
  o.cpu_expert_tokens = 3;
  const RunSettings want = run_settings(o);
  EXPECT_EQ(run_settings(o), want);
  o.cpu_attention_share = 0.25;
  EXPECT_NE(run_settings(o), want);
  o.cpu_attention_share = 0.5;
  o.cpu_expert_tokens.reset();
  EXPECT_NE(run_settings(o), want);
}

// Whoever shares its passes, wherever they are cut, also where sequences are preempted and computed again.
TEST_P(CpuShareOfAGpu, AttentionDependsOnNoPlanButTheShare) {
  EngineOptions o = options();
  o.cpu_attention_share = 0.5;
  const Logprobs want = run(o);
  int seed = 2;
  for (const auto& [pass_tokens, kv_memory] : std::vector<std::pair<int64_t, uint64_t>>{{7, 0}, {40, 500 << 10}}) {
    EngineOptions changed = options(seed++);
    changed.cpu_attention_share = 0.5;
    changed.max_pass_tokens = pass_tokens;
    if (kv_memory > 0) changed.kv_memory = kv_memory;
    EXPECT_TRUE(run(changed) == want) << pass_tokens << " " << kv_memory;
  }
  auto reversed = requests();
  std::reverse(reversed.begin(), reversed.end());
  EXPECT_TRUE(run(o, reversed) == want);
}

TEST_P(CpuShareOfAGpu, Both) {
  EngineOptions o = streaming();
  o.cpu_attention_share = 0.6;
  o.device_memory = *o.device_memory + (1 << 20);
  EXPECT_LE(difference(run(o), run(options())), kTolerance);
}

// With the machine's rates the planner chooses sizes and shares, says how long the job will take, and the run keeps to it.
TEST_P(CpuShareOfAGpu, IsPlannedFromRates) {
  EngineOptions o = streaming();
  o.cpu_expert_tokens.reset();
  o.machine_file = kMachines / "c2.json";
  for (const Request& r : requests())
    o.workload.requests.push_back(
        {static_cast<int32_t>(std::get<std::vector<TokenId>>(r.prompts[0]).size()), static_cast<int32_t>(*r.sampling.max_tokens)});
  const ModelSetup setup(o);
  ASSERT_TRUE(setup.decision);
  EXPECT_GT(setup.decision->best.job.seconds, 0);
  EXPECT_GT(setup.decision->tried, 5);
  EXPECT_TRUE(setup.plan.gpu->cpu_experts.balanced());
  EXPECT_LE(difference(run(o), run(options())), kTolerance);
  o.machine_file = kMachines / "xeon.json";
  EXPECT_ERROR(Engine(o), ErrorCode::invalid_argument, "xeon.json");
}

// A pass whose rows come in many chunks, and two waves: the bits are those of small passes.
TEST(LinearAttentionOfAGpu, InChunks) {
  std::vector<Request> list;
  std::mt19937 rng(5);
  for (int i = 0; i < 18; ++i) {
    std::vector<TokenId> prompt;
    for (int n = 0; n < 230 + i; ++n) prompt.push_back(static_cast<TokenId>(5 + rng() % 260));
    list.push_back(greedy(fmt::format("r{}", i), prompt, 3));
    list.back().sampling.logprobs = 1;
    list.back().sampling.prompt_logprobs = 0;
  }
  const auto with_passes_of = [&](int64_t tokens, int seed) {
    EngineOptions o = ids_only(kModels / "qwen3_next");
    o.device = find_gpus().gpus.empty() ? fmt::format("emulated:{}", seed) : "cuda";
    o.max_model_len = 256;
    o.max_pass_tokens = tokens;
    return run(o, list);
  };
  const Logprobs want = with_passes_of(300, 1);
  EXPECT_TRUE(with_passes_of(8192, 2) == want);
}

// States of preempted sequences go to the disk, and come back.
TEST(LinearAttentionOfAGpu, StatesAreKeptOnDisk) {
  EngineOptions o = ids_only(kModels / "qwen3_next");
  o.device = find_gpus().gpus.empty() ? "emulated:4" : "cuda";
  o.max_model_len = 256;
  std::vector<Request> list;
  for (int i = 0; i < 6; ++i) {
    list.push_back(greedy(fmt::format("r{}", i), std::vector<TokenId>(20, 7 + i), 60));  // from one page to three
    list.back().sampling.logprobs = 1;
    list.back().sampling.prompt_logprobs = 0;
  }
  const Logprobs want = run(o, list);
  o.kv_memory = 68 << 10;
  o.swap_folder = std::filesystem::temp_directory_path();
  o.swap_space = 1 << 30;
  Progress progress;
  EXPECT_TRUE(run(o, list, &progress) == want);
  EXPECT_GT(progress.preemptions, 0);
  EXPECT_EQ(progress.recomputed, 0);
}

TEST(CpuShareRefusals, AreForGpuRuns) {
  EngineOptions o = ids_only(kModels / "mixtral");
  o.cpu_attention_share = 0.5;
  EXPECT_ERROR(Engine(o), ErrorCode::unsupported, "--cpu-attention-share");
  o.cpu_attention_share.reset();
  o.cpu_expert_tokens = 4;
  EXPECT_ERROR(Engine(o), ErrorCode::unsupported, "--cpu-expert-tokens");
}

}  // namespace
}  // namespace moegen::testing
