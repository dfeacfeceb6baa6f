#include "simulate/simulation.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "moegen/plan.h"
#include "plan/machine_file.h"
#include "simulate/planner.h"
#include "simulate/remembered_costs.h"
#include "spec/families.h"
#include "tests/spec/configs.h"
#include "tests/support/errors.h"
#include "tests/support/machines.h"
#include "tests/support/temp_dir.h"

namespace moegen {
namespace {

class SimulationTest : public ::testing::Test {
 protected:
  SimulationTest()
      : spec_(read_spec(Config(config(), "config.json"))),
        machine_(round_machine()),
        work_(work_of(spec_)),
        units_(weight_units(tensor_table(spec_), DType::bf16)) {
    in_ = budget(uint64_t{4} << 30);
  }

  PlanInput budget(uint64_t host_memory) const {
    PlanInput in = budget_for(spec_, work_, units_, host_memory);
    in.threads = 2;
    return in;
  }

  static nlohmann::json config() {
    auto c = qwen3_moe_config();
    c.update({{"hidden_size", 1024},
              {"moe_intermediate_size", 512},
              {"num_experts", 64},
              {"num_experts_per_tok", 4},
              {"num_attention_heads", 16},
              {"num_key_value_heads", 4},
              {"head_dim", 64},
              {"num_hidden_layers", 6},
              {"max_position_embeddings", 131072},
              {"vocab_size", 8000}});
    return c;
  }

  JobCost simulate(const Workload& workload) {
    const Plan plan = make_plan(in_);
    const PassCosts costs(spec_, work_, machine_, plan, units_);
    return simulate_job(
        plan, [&](const PassLoad& load) { return costs.of(load); }, workload);
  }

  Decision choose(const Workload& workload) { return choose_plan({in_, &machine_, &workload}); }

  static Workload equal(int32_t prompt, int32_t output, size_t count) { return {"test", std::vector<RequestLength>(count, {prompt, output})}; }
  static Workload ragged(int count) {
    Workload out{"ragged", {}};
    std::mt19937 random(1);
    const auto up_to = [&](uint32_t n) { return static_cast<int32_t>(1 + random() % n); };
    for (int i = 0; i < count; ++i) out.requests.push_back({20 + up_to(300), up_to(200)});
    return out;
  }

  ModelSpec spec_;
  Machine machine_;
  ModelWork work_;
  std::vector<WeightUnit> units_;
  PlanInput in_;
};

TEST_F(SimulationTest, EveryTokenIsComputedOnce) {
  const Workload workload = ragged(500);
  in_.max_num_seqs = 64;
  const JobCost job = simulate(workload);
  EXPECT_EQ(job.prompt_tokens, prompt_tokens(workload));
  EXPECT_EQ(job.generated_tokens, output_tokens(workload));
  EXPECT_EQ(job.preemptions, 0);
  EXPECT_EQ(job.most_sequences, 64);
  EXPECT_NEAR(job.seconds, job.sum.seconds, 1e-9 * job.seconds);
  EXPECT_GT(job.prompt_seconds, 0);
  EXPECT_LT(job.prompt_seconds, job.seconds);
}

TEST_F(SimulationTest, OnePassForAPromptAndOneForEveryFurtherToken) {
  EXPECT_EQ(simulate(equal(100, 10, 3)).passes, 10);
  in_.max_pass_tokens = 50;
  in_.max_num_seqs = 1;
  EXPECT_EQ(simulate(equal(100, 10, 3)).passes, 3 * 11) << "two chunks, the second of which gives the first token";
}

TEST_F(SimulationTest, FewPagesPreempt) {
  in_.kv_memory = 40 * KvLayout(spec_, DType::bf16).page_bytes;
  const JobCost job = simulate(ragged(100));
  EXPECT_GT(job.preemptions, 0);
  EXPECT_GT(job.prompt_tokens, prompt_tokens(ragged(100)));
}

TEST_F(SimulationTest, WhatADiskKeepsTakesItsTimeAndIsNotComputedAgain) {
  const KvLayout kv(spec_, DType::bf16);
  in_.kv_memory = 40 * kv.page_bytes;
  in_.swap = {uint64_t{1} << 40, 1e9, true};
  const JobCost job = simulate(ragged(100));
  EXPECT_GT(job.preemptions, 0);
  EXPECT_EQ(job.prompt_tokens, prompt_tokens(ragged(100)));
  const double disk = job.seconds - job.sum.seconds;
  const double page = 2 * static_cast<double>(kv.page_bytes) / 1e9;  // out and in
  EXPECT_GT(disk, 0.9 * page * static_cast<double>(job.preemptions));
  EXPECT_LT(disk, 17.0 * page * static_cast<double>(job.preemptions)) << "520 tokens at most";
  EXPECT_EQ(job.recomputed, 0);
  in_.swap.bytes = 3 * kv.page_bytes;  // too little for most
  const JobCost full = simulate(ragged(100));
  EXPECT_GT(full.recomputed, 0);
  EXPECT_LE(full.recomputed, full.preemptions);
  in_.swap = {uint64_t{1} << 40, 1e3, false};  // slower than computing again
  const JobCost slow = simulate(ragged(100));
  EXPECT_EQ(slow.recomputed, slow.preemptions);
  EXPECT_EQ(slow.swap_seconds, 0);
}

TEST_F(SimulationTest, AJobOfManyRequestsContinuesAtItsRate) {
  in_.max_num_seqs = 32;
  in_.max_pass_tokens = 256;
  const JobCost whole = simulate(ragged(3000));
  const Decision decision = choose(ragged(3000));
  EXPECT_NEAR(decision.best.job.seconds, whole.seconds, 0.03 * whole.seconds);
  EXPECT_NEAR(static_cast<double>(decision.best.job.passes), static_cast<double>(whole.passes), 0.03 * static_cast<double>(whole.passes));
}

// Pages for a few sequences only: each of 1,024 that may be in flight cannot stand for several.
TEST_F(SimulationTest, ALongJobOfWhichFewAreInFlightContinuesAtItsRate) {
  in_.kv_memory = 60 * KvLayout(spec_, DType::bf16).page_bytes;
  in_.max_num_seqs = 1024;
  const JobCost whole = simulate(equal(600, 40, 1024));
  EXPECT_EQ(whole.failed, 0);
  const Decision decision = choose(equal(600, 40, 1024));
  EXPECT_EQ(decision.best.job.failed, 0);
  EXPECT_LE(decision.best.job.seconds, 1.03 * whole.seconds);
  EXPECT_GE(decision.best.job.seconds, 0.5 * whole.seconds);
}

// Nothing waits any more: those that run are as many as before, and still simulated as fewer.
TEST_F(SimulationTest, TheTailOfALongJobIsSimulatedAsFewer) {
  in_.max_num_seqs = 2048;
  in_.max_pass_tokens = 2048;
  const Plan plan = make_plan(in_);
  const PassCosts costs(spec_, work_, machine_, plan, units_);
  const std::vector<BegunRequest> begun(2047, BegunRequest{.left = {20, 3}, .computed = 19});
  const Workload none{"none", {}};
  const JobCost job = simulate_long_job(
      plan, [&](const PassLoad& load) { return costs.of(load); }, {0, [&](int64_t) -> const Workload& { return none; }}, begun);
  EXPECT_EQ(job.most_sequences, 7 * 292) << "each is seven, of which a pass carries 2048 / 7";
}

TEST_F(SimulationTest, WhatCannotBeHeldIsCounted) {
  in_.kv_memory = 10 * KvLayout(spec_, DType::bf16).page_bytes;
  Workload workload = equal(100, 10, 7);
  workload.requests.push_back({400, 10});      // more than the pages
  workload.requests.push_back({5000000, 10});  // more than the context
  const JobCost job = simulate(workload);
  EXPECT_EQ(job.failed, 2);
  EXPECT_EQ(job.generated_tokens, 70);
}

TEST_F(SimulationTest, ThePlannerSavesNoTimeByRequestsThatFail) {
  in_.host_memory = 330 << 20;
  in_.wanted_context = 1500;
  const Decision decision = choose(equal(1400, 50, 30));
  EXPECT_EQ(decision.best.job.failed, 0);
  EXPECT_EQ(decision.best.job.generated_tokens, 30 * 50);
}

TEST_F(SimulationTest, APlanLeavesPagesForTheLongestRequest) {
  in_.host_memory = 600 << 20;
  const auto holds = [&] {
    const Plan plan = make_plan(in_);
    return longest_held(plan.kv.groups, plan.sizes.page_tokens, plan.kv_pages);
  };
  const int64_t without = holds();
  in_.wanted_context = 3 * without / 2;
  EXPECT_GE(holds(), in_.wanted_context);
  in_.wanted_context = int64_t{1} << 40;  // as many as there is room for
  EXPECT_GT(holds(), without);
}

TEST_F(SimulationTest, ThePlannerKeepsWhatIsGivenAndEveryBudget) {
  in_.host_memory = 700 << 20;
  in_.max_num_seqs = 48;
  in_.weight_slots = 5;
  const Decision decision = choose(ragged(400));
  const Plan& plan = decision.best.plan;
  EXPECT_EQ(plan.sizes.sequences, 48);
  EXPECT_TRUE(plan.weights.slots == 5 || plan.weights.slots == 0);
  const uint64_t sum =
      std::accumulate(plan.memory.begin(), plan.memory.end(), uint64_t{0}, [](uint64_t s, const auto& part) { return s + part.second; });
  EXPECT_LE(sum, in_.host_memory);
}

TEST_F(SimulationTest, WhatFitsStays) {
  const Decision in_memory = choose(ragged(300));
  EXPECT_EQ(in_memory.best.plan.weights.slots, 0);
  in_.host_memory = in_.weight_bytes * 2 / 3;
  const Decision decision = choose(ragged(300));
  EXPECT_GT(decision.best.plan.weights.slots, 0);
  EXPECT_GT(decision.best.job.seconds, in_memory.best.job.seconds);
}

// Memory for a few more sequences is not worth a disk in every pass.
TEST_F(SimulationTest, NothingStreamsForAHair) {
  machine_.ssd->read_bandwidth = 2e10;
  machine_.ssd->by_depth = {};
  for (const auto& [spare, streams] : {std::pair(uint64_t{320}, true), std::pair(uint64_t{400}, false)}) {
    in_ = budget(budget(1 << 30).weight_bytes + (spare << 20));
    EXPECT_EQ(choose(ragged(300)).best.plan.weights.slots > 0, streams)
        << spare << " MiB beside the weights: with a disk it takes " << (streams ? 0.88 : 0.98) << " of the time";
  }
}

// The search goes along one dimension at a time; a grid over all of them finds nothing that is much better.
TEST_F(SimulationTest, ThePlannerFindsWhatAGridFinds) {
  for (const uint64_t memory : {uint64_t{600} << 20, uint64_t{900} << 20, uint64_t{2} << 30}) {
    for (const Workload& workload : {equal(200, 50, 400), ragged(400), equal(300, 1, 400)}) {
      in_ = budget(memory);
      const double chosen = choose(workload).best.job.seconds;
      double best = 1e18;
      for (const double share : {0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0}) {
        for (const int64_t tokens : {128, 512, 2048, 8192}) {
          for (const int64_t sequences : {16, 64, 128, 256, 512}) {
            in_ = budget(memory);
            const uint64_t least = least_weight_bytes({units_, in_.weight_bytes, {}});
            in_.weight_memory = least + static_cast<uint64_t>(share * static_cast<double>(in_.weight_bytes - least));
            in_.max_pass_tokens = tokens;
            in_.max_num_seqs = sequences;
            try {
              best = std::min(best, simulate(workload).seconds);
            } catch (const Error&) {  // over the budget
            }
          }
        }
      }
      EXPECT_LE(chosen, 1.03 * best) << memory << " " << workload.name;
    }
  }
}

TEST(RememberedCosts, ThoseOfNearlyTheSameLoad) {
  int calls = 0;
  RememberedCosts costs([&](const PassLoad& load) {
    ++calls;
    return PassCost{.seconds = load.decodes + load.prompt_tokens};
  });
  EXPECT_EQ(costs({.decodes = 1000}).seconds, 1000);
  EXPECT_EQ(costs({.decodes = 1001}).seconds, 1000);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(costs({.decodes = 1010}).seconds, 1010);
  EXPECT_EQ(costs({.prompt_tokens = 1000}).seconds, 1000) << "another load";
  EXPECT_EQ(costs({.prompt_tokens = 2}).seconds, 2);
  EXPECT_EQ(calls, 4);
  for (double count = 1; count < 1e9; count *= 1.001) EXPECT_NEAR(costs({.decodes = count}).seconds, count, 0.006 * count);
  EXPECT_LT(calls, 4000);
}

// Where weights that stay leave prompts no room: a model far larger than a machine's memory.
TEST(Planner, LargePassesForPrompts) {
  const std::filesystem::path files = std::filesystem::path(MOEGEN_SOURCE_DIR) / "benchmarks/simulation";
  const ModelSpec spec = load_spec(files / "configs/qwen3-235b-a22b.json");
  const Machine machine = load_machine(files / "machines/rtx5090.json");
  const auto table = tensor_table(spec);
  const auto units = weight_units(table, DType::bf16);
  const ModelWork work = work_of(spec);
  PlanInput in = budget_for(spec, work, units, machine.dram.bytes / 10 * 9);
  in.gpu = GpuInput{machine.gpu->memory_bytes / 10 * 9, machine.ssd->bytes, false, {}, 0.0};
  const Workload prompts{"prompts", std::vector<RequestLength>(20000, {512, 1})};
  const double chosen = choose_plan({in, &machine, &prompts}).best.job.seconds;
  in.weight_memory = machine.dram.bytes / 8;
  in.max_pass_tokens = 1 << 17;
  EXPECT_LE(chosen, 1.03 * choose_plan({in, &machine, &prompts}).best.job.seconds);
}

TEST_F(SimulationTest, TheCpuGetsExpertsWhereThatIsFaster) {
  machine_ = round_gpu_machine(uint64_t{1} << 30);
  in_.gpu = GpuInput{uint64_t{200} << 20, 0, false, {}, {}};
  EXPECT_TRUE(choose(equal(16, 50, 12)).best.plan.gpu->cpu_experts.any());
  machine_.cpu.bf16_flops = 1e7;
  EXPECT_FALSE(choose(equal(16, 50, 12)).best.plan.gpu->cpu_experts.any());
}

TEST_F(SimulationTest, StaticBatchesThatThePagesDoNotHoldAreRefused) {
  machine_ = round_gpu_machine(uint64_t{1} << 30);
  in_.gpu = GpuInput{uint64_t{500} << 20, 0, true, {}, {}};
  const Workload workload = ragged(10);
  in_.kv_memory = KvLayout(spec_, DType::bf16).page_bytes;
  EXPECT_ERROR(static_cast<void>(choose(workload)), ErrorCode::out_of_memory, "the KV pages hold no request of");
  for (const bool static_batches : {false, true}) {
    in_.gpu->static_batches = static_batches;
    in_.kv_memory = 1;
    EXPECT_ERROR(static_cast<void>(choose(workload)), ErrorCode::out_of_memory, "--kv-memory 1 bytes is less than the pages of 32 tokens");
  }
}

TEST_F(SimulationTest, CountsOfNoneAreRefusedOnAGpuToo) {
  machine_ = round_gpu_machine(uint64_t{1} << 30);
  const Workload workload = ragged(10);
  for (std::optional<int64_t> PlanInput::*count : {&PlanInput::max_pass_tokens, &PlanInput::max_num_seqs}) {
    in_ = budget(uint64_t{4} << 30);
    in_.gpu = GpuInput{uint64_t{500} << 20, 0, false, {}, {}};
    in_.*count = 0;
    EXPECT_ERROR(static_cast<void>(choose(workload)), ErrorCode::invalid_argument, "must be from 1 to");
  }
}

// A pass computes for a moment and reads for long: only more tokens make that better, however many they are.
TEST_F(SimulationTest, WeightsThatStreamGetLargePasses) {
  machine_.cpu.bf16_flops = 1e15;
  machine_.cpu.attention_flops = 1e15;
  machine_.dram.bandwidth = 1e13;
  machine_.ssd->read_bandwidth = 1e8;
  in_.weight_memory = in_.weight_bytes / 2;
  in_.host_memory = uint64_t{32} << 30;
  EXPECT_GE(choose(equal(512, 1, 1000)).best.plan.sizes.pass_tokens, 1 << 17);
}

TEST_F(SimulationTest, SomeRequestsMayStandForAll) {
  const Workload some = ragged(4000);
  Workload all{"all", {}};
  for (int i = 0; i < 5; ++i) all.requests.insert(all.requests.end(), some.requests.begin(), some.requests.end());
  in_.max_num_seqs = 64;
  const double want = choose(all).best.job.seconds;
  EXPECT_NEAR((choose_plan({in_, &machine_, &some, 5 * 4000}).best.job.seconds), want, 0.02 * want);
}

TEST_F(SimulationTest, WhatFitsNeedsNoStorage) {
  machine_.ssd.reset();
  EXPECT_EQ(choose(ragged(10)).best.plan.weights.slots, 0);
  in_ = budget(uint64_t{300} << 20);
  const Workload workload = ragged(10);
  EXPECT_ERROR(static_cast<void>(choose(workload)), ErrorCode::unsupported, "rate is not known");
}

TEST_F(SimulationTest, TheLeastMemoryThatIsNamedIsEnough) {
  for (uint64_t memory : {uint64_t{1}, uint64_t{40} << 20}) {
    in_ = budget(memory);
    const Error error = error_of([&] { static_cast<void>(make_plan(in_)); });
    const std::string text = error.what();
    const size_t at = text.find(" bytes) are needed");
    ASSERT_NE(at, std::string::npos) << text;
    memory = std::stoull(text.substr(text.rfind('(', at) + 1));
    in_ = budget(memory);
    EXPECT_NO_THROW(static_cast<void>(make_plan(in_))) << text;
    in_ = budget(memory - 1);
    EXPECT_THROW(static_cast<void>(make_plan(in_)), Error) << text;
  }
}

TEST_F(SimulationTest, TooLittleMemoryIsRefusedWithTheNumbers) {
  in_.host_memory = 50 << 20;
  const Workload workload = ragged(10);
  const Error error = error_of([&] { static_cast<void>(choose(workload)); });
  EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
  EXPECT_NE(std::string(error.what()).find("at least"), std::string::npos) << error.what();
}

TEST(Workload, LengthsOfAFile) {
  const TempDir dir;
  dir.write("a.csv", "id,prompt_tokens,output_tokens\r\n\nx, 5,6\r\ny,\"7\",0");
  const Workload w = read_lengths(dir.path() / "a.csv");
  ASSERT_EQ(w.requests.size(), 2U);
  EXPECT_EQ(w.requests[0].prompt_tokens, 5);
  EXPECT_EQ(w.requests[1].output_tokens, 0);
  EXPECT_EQ(w.name, "a.csv");
  dir.write("a.csv", "\xef\xbb\xbfprompt_tokens,output_tokens\n7,8\n");  // as spreadsheets write it
  EXPECT_EQ(read_lengths(dir.path() / "a.csv").requests.at(0).prompt_tokens, 7);
  const auto refusal = [&](const std::string& text) {
    dir.write("b.csv", text);
    return std::string(error_of([&] { static_cast<void>(read_lengths(dir.path() / "b.csv")); }).what());
  };
  EXPECT_NE(refusal("prompt_tokens,output_tokens\n5,x\n").find("b.csv: line 2: output_tokens"), std::string::npos);
  EXPECT_NE(refusal("prompt_tokens,output_tokens\n0,1\n").find("line 2: prompt_tokens"), std::string::npos);
  EXPECT_NE(refusal("prompt_tokens,output_tokens\n5\n").find("line 2: output_tokens"), std::string::npos);
  EXPECT_NE(refusal("prompt_tokens,output_tokens\n5,99999999999999999999\n").find("line 2"), std::string::npos);
  EXPECT_NE(refusal("5,6\n").find("header"), std::string::npos);
  EXPECT_NE(refusal("prompt_tokens,output_tokens\n").find("no lengths"), std::string::npos);
  EXPECT_NE(refusal("").find("no lengths"), std::string::npos);
}

TEST(Workload, ThinnedKeepsItsShape) {
  Workload w;
  for (int i = 0; i < 1000; ++i) w.requests.push_back({i + 1, i});
  const Workload thin = ByLength(w).some(100);
  EXPECT_EQ(thin.requests.size(), 100U);
  EXPECT_NEAR(static_cast<double>(prompt_tokens(thin)) * 10, static_cast<double>(prompt_tokens(w)), 0.02 * static_cast<double>(prompt_tokens(w)));
  EXPECT_EQ(ByLength(w).some(5000).requests.size(), 1000U);
}

}  // namespace
}  // namespace moegen
