// Models with windows and chunks: pages that no query sees any more go back to the pool while their sequence runs, and nobody reads them.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "api/model.h"
#include "base/file.h"
#include "engine/loop.h"
#include "engine/swap_file.h"
#include "pipeline/executor.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace moegen::testing {
namespace {

struct Outcome {
  std::map<int64_t, std::vector<TokenId>> tokens;  // of each request, its prompt included
  int64_t most_pages = 0;
  int64_t preemptions = 0;
  int64_t recomputed = 0;
};

// Greedy answers to the prompts. Whatever is free between two passes is overwritten with what is not a number in any type.
Outcome run(const LoadedModel& model, int32_t pages, const std::vector<std::vector<TokenId>>& prompts, int64_t max_tokens, uint64_t swap_space = 0) {
  Plan plan = model.plan;
  plan.kv_pages = pages;
  ThreadPool pool(2);
  Executor executor(model.spec, model.weights, nullptr, model.kernels, pool, plan, model.act);
  const TempDir dir;
  SwapFile swap(executor, plan.kv, dir.path(), swap_space);
  Scheduler scheduler(plan.sizes, plan.kv.groups, pages, swap_space > 0 ? &swap : nullptr);
  Sampler sampler(model.kernels, model.spec.vocab, pool.size());
  Loop loop(scheduler, executor, sampler, pool);
  Sampling sampling;
  sampling.temperature = 0;
  sampling.max_tokens = max_tokens;
  sampling.max_len = plan.max_model_len;
  for (size_t i = 0; i < prompts.size(); ++i) {
    auto s = std::make_unique<Sequence>();
    s->request = static_cast<int64_t>(i);
    s->sampling = std::make_shared<Sampling>(sampling);
    s->tokens = prompts[i];
    s->prompt_len = static_cast<int64_t>(prompts[i].size());
    scheduler.add(std::move(s));
  }
  Outcome out;
  std::vector<std::unique_ptr<Sequence>> finished;
  while (!scheduler.idle()) {
    for (int32_t page = 0; page < pages; ++page) {
      if (scheduler.pages().is_free(page)) std::ranges::fill(executor.kv_page(page), std::byte{0xff});
    }
    loop.step(finished);
    out.most_pages = std::max(out.most_pages, scheduler.pages_used());
    for (const auto& s : finished) {
      EXPECT_EQ(s->error, "");
      out.tokens[s->request] = s->tokens;
    }
    finished.clear();
  }
  EXPECT_EQ(scheduler.pages_used(), 0);
  EXPECT_EQ(swap.bytes(), 0U);
  out.preemptions = scheduler.num_preemptions();
  out.recomputed = scheduler.num_recomputed();
  return out;
}

std::vector<TokenId> prompt_of(int64_t tokens) {
  std::vector<TokenId> out;
  for (int64_t i = 0; i < tokens; ++i) out.push_back(static_cast<TokenId>(5 + i * 37 % 250));
  return out;
}

class Windows : public ::testing::TestWithParam<std::string> {
 protected:
  EngineOptions options() const { return ids_only(kModels / GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Models, Windows, ::testing::Values("mistral", "gpt_oss", "gpt_oss_mxfp4", "gemma4", "llama4_text"),
                         [](const auto& p) { return p.param; });

// Passes of all sizes, and so few pages that sequences are preempted.
TEST_P(Windows, GoldenTokensWhileFreePagesAreSpoilt) {
  const auto golden = nlohmann::json::parse(read_text_file(kModels / GetParam() / "golden.json", 10 << 20));
  std::vector<std::vector<TokenId>> prompts;
  for (const auto& c : golden["cases"]) prompts.push_back(c["prompt_ids"].get<std::vector<TokenId>>());
  int64_t preemptions = 0;
  bool all_windows = true;
  for (const char* dtype : {"float32", "bfloat16"}) {
    std::map<int64_t, std::vector<TokenId>> want;
    for (const int64_t pass_tokens : {256, 40, 7}) {
      EngineOptions o = options();
      o.dtype = dtype;
      o.max_pass_tokens = pass_tokens;
      const LoadedModel model(o);
      const auto& groups = model.plan.kv.groups;
      all_windows = std::ranges::all_of(groups, &KvGroup::bounded);
      for (const int32_t pages : {100, 14, 10}) {
        const Outcome have = run(model, pages * static_cast<int32_t>(groups.size()), prompts, 150);
        preemptions += have.preemptions;
        if (want.empty()) want = have.tokens;
        EXPECT_EQ(have.tokens, want) << dtype << ", passes of " << pass_tokens << ", " << pages << " pages a group";
        const Outcome kept = run(model, pages * static_cast<int32_t>(groups.size()), prompts, 150, 1 << 30);
        EXPECT_EQ(kept.tokens, want) << dtype << ", kept on disk, passes of " << pass_tokens << ", " << pages << " pages a group";
        EXPECT_EQ(kept.recomputed, 0);
      }
    }
    for (size_t i = 0; i < prompts.size(); ++i) {
      const auto ids = golden["cases"][i]["generated_ids"].get<std::vector<TokenId>>();
      const auto& have = want.at(static_cast<int64_t>(i));
      EXPECT_TRUE(std::equal(ids.begin(), ids.end(), have.begin() + static_cast<std::ptrdiff_t>(prompts[i].size()))) << dtype << ", case " << i;
    }
  }
  EXPECT_TRUE(preemptions > 0 || all_windows) << "where windows bound all that sequences need, admission leaves enough";
}

// The pages of a long sequence: all layers' for what no window bounds, and for the rest no more than its windows.
TEST_P(Windows, ALongSequenceHasPagesOfItsWindowsOnly) {
  EngineOptions o = options();
  o.max_pass_tokens = 64;
  const LoadedModel model(o);
  const auto& groups = model.plan.kv.groups;
  const int64_t tokens = std::min<int64_t>(model.plan.max_model_len, 500);
  const int64_t full = std::count_if(groups.begin(), groups.end(), [](const KvGroup& g) { return !g.bounded(); });
  const int64_t rows = (tokens + kPageTokens - 1) / kPageTokens;
  const Outcome have = run(model, static_cast<int32_t>(rows * model.plan.kv.num_groups()), {prompt_of(tokens - 100)}, 100);
  EXPECT_EQ(have.tokens.at(0).size(), static_cast<size_t>(tokens));
  EXPECT_LE(have.most_pages, full * rows + (model.plan.kv.num_groups() - full) * 5) << "48 positions of a chunk, and a pass of 64";
  EXPECT_GE(have.most_pages, full * (rows - 1) + 1);
}

}  // namespace
}  // namespace moegen::testing
