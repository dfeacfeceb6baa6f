#include "plan/gpu_pass_cost.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>

#include "spec/families.h"
#include "tests/spec/configs.h"
#include "tests/support/errors.h"
#include "tests/support/machines.h"

namespace moegen {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

// Layers as wide as those of Qwen3-30B-A3B.
ModelSpec wide_spec() {
  auto c = qwen3_moe_config();
  c.update({{"hidden_size", 2048},
            {"moe_intermediate_size", 768},
            {"num_experts", 128},
            {"num_experts_per_tok", 8},
            {"num_attention_heads", 32},
            {"num_key_value_heads", 4},
            {"head_dim", 128},
            {"num_hidden_layers", 12},
            {"decoder_sparse_step", 1},
            {"vocab_size", 32000}});
  return read_spec(Config(c, "config.json"));
}

class GpuPassCostTest : public ::testing::Test {
 protected:
  GpuPassCostTest()
      : spec_(wide_spec()), work_(work_of(spec_)), units_(weight_units(tensor_table(spec_), DType::bf16)), machine_(round_gpu_machine(16 * kGiB)) {
    in_ = budget_for(spec_, work_, units_, 64 * kGiB);
    in_.gpu = GpuInput{8 * kGiB, uint64_t{1} << 40, false, 0, 0.0};
  }

  PassCost cost(const PassLoad& load, const std::function<void(const PassTask&)>& look = {}) {
    const Plan plan = make_plan(in_);
    return GpuPassCosts(spec_, work_, machine_, plan).of(load, look);
  }

  // Of sequences with their KV in host memory: far more than HBM holds.
  static PassLoad decodes(double count, double context) { return {count, count * context, 0, 0, count, 0}; }
  static PassLoad prompts(double count, double length) { return {0, 0, count * length, count * length * (length + 1) / 2, count, 0}; }

  ModelSpec spec_;
  ModelWork work_;
  std::vector<WeightUnit> units_;
  Machine machine_;
  PlanInput in_;
};

TEST_F(GpuPassCostTest, TheWorkOfAModelIsThatOfItsTensors) {
  const LayerWork& layer = work_.layers[3];
  EXPECT_DOUBLE_EQ(layer.expert_bytes, 128 * 3.0 * 2048 * 768 * 2);
  EXPECT_DOUBLE_EQ(layer.expert_flops, 3 * 2.0 * 2048 * 768);
  EXPECT_DOUBLE_EQ(layer.fixed_flops, 2.0 * 2048 * (4096 + 2 * 512 + 4096 + 128)) << "q, k, v, o and the router";
  EXPECT_DOUBLE_EQ(layer.kv_bytes, 2.0 * 4 * 128 * 2);
  EXPECT_DOUBLE_EQ(layer.key_flops, 4.0 * 32 * 128);
  EXPECT_DOUBLE_EQ(work_.head_bytes, 32000.0 * 2048 * 2);
  EXPECT_EQ(layer.experts, MatrixFormat{});
  spec_.tied_embeddings = true;
  EXPECT_DOUBLE_EQ(work_of(spec_).head_bytes, 32000.0 * 2048 * 2) << "it has to be there twice: rows in DRAM, and all of it where it is the head";
}

TEST(ModelWork, KnowsWhatItsMatricesAreIn) {
  auto c = qwen2_moe_config();
  c["quantization_config"] = {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}, {"modules_to_not_convert", {"self_attn"}}};
  const LayerWork layer = work_of(read_spec(Config(c, "config.json"))).layers[0];
  EXPECT_EQ(layer.attention, MatrixFormat{});
  EXPECT_EQ(layer.experts.dtype, DType::f8_e4m3);
  EXPECT_EQ(layer.mlp.dtype, DType::f8_e4m3) << "the shared expert";
  EXPECT_DOUBLE_EQ(layer.experts.bytes, 1);
}

TEST_F(GpuPassCostTest, NoResourceIsBusyForLongerThanThePass) {
  for (const double share : {0.0, 0.5, 1.0}) {
    in_.gpu->cpu_experts = share == 0.5 ? &machine_ : nullptr;
    for (const uint64_t host : {64 * kGiB, 12 * kGiB}) {
      in_.gpu->cpu_attention_share = share;
      in_.host_memory = host;
      in_.weight_memory = host / 4;
      for (const PassLoad& load : {decodes(8, 500), decodes(4000, 500), prompts(1, 100), prompts(20, 500)}) {
        const PassCost c = cost(load);
        for (const double busy : {c.gpu, c.cpu, c.link, c.storage, c.dram, c.flops}) EXPECT_LE(busy, c.seconds * (1 + 1e-9));
        EXPECT_NEAR(c.gpu, c.projections + c.attention + c.experts + c.logits, 1e-9 * c.gpu);
        EXPECT_NEAR(c.seconds, c.gpu + c.wait, 1e-9);
        EXPECT_LE(c.seconds, 1.001 * (c.gpu + c.cpu + 2 * c.link + c.storage)) << "and nobody waits where all could go on";
      }
    }
  }
}

TEST_F(GpuPassCostTest, MoreWorkTakesLonger) {
  double before = 0;
  for (double count = 1; count <= 16384; count *= 2) {
    const double now = cost(decodes(count, 200)).seconds;
    EXPECT_GE(now, before * 0.999) << count;
    before = now;
  }
  EXPECT_LT(cost(decodes(1000, 100)).seconds, cost(decodes(1000, 1000)).seconds);
}

TEST_F(GpuPassCostTest, AFasterResourceIsNeverSlower) {
  in_.gpu->cpu_attention_share = 0.5;
  in_.host_memory = 12 * kGiB;
  in_.weight_memory = 4 * kGiB;
  for (double* rate : {&machine_.link->h2d, &machine_.link->d2h, &machine_.gpu->bf16_flops, &machine_.gpu->memory_bandwidth,
                       &machine_.cpu.attention_flops, &machine_.dram.bandwidth, &*machine_.ssd->read_bandwidth}) {
    for (const PassLoad& load : {decodes(100, 500), decodes(4000, 500), prompts(20, 500)}) {
      const double before = cost(load).seconds;
      *rate *= 2;
      EXPECT_LE(cost(load).seconds, before * (1 + 1e-9));
      *rate /= 2;
    }
  }
}

TEST_F(GpuPassCostTest, MeasuredRatesTakeTheirPlace) {
  in_.gpu->device_memory = 60 * kGiB;
  in_.gpu->device_weights = 50 * kGiB;  // all stay
  const PassCost few = cost(decodes(128, 500)), many = cost(prompts(100, 160));
  machine_.gpu->products = {{{8, 1e12, 0}, {1000, 5e13, 0}}};
  machine_.gpu->attention_flops = 1e12;
  machine_.gpu->attention_bandwidth = 1e11;
  const PassCost few_measured = cost(decodes(128, 500)), many_measured = cost(prompts(100, 160));
  // 128 tokens x 8 experts of 128: 8 tokens an expert.
  const auto layers = static_cast<double>(work_.layers.size());
  const double flops = layers * 128 * 8 * 3 * 2 * 2048 * 768;
  EXPECT_NEAR(few_measured.experts - few.experts, flops / 1e12 - layers * work_.layers[0].expert_bytes / 1e12, 0.02 * few_measured.experts);
  EXPECT_NEAR(many_measured.experts, many.experts * 2, 0.05 * many_measured.experts) << "half the peak at 1,000 tokens an expert";
  EXPECT_NEAR(few_measured.attention, few.attention * 10, 1e-6 * few_measured.attention);
  EXPECT_NEAR(many_measured.attention, many.attention * 70, 1e-6 * many_measured.attention);
}

TEST_F(GpuPassCostTest, WhatStaysCrossesNoLink) {
  in_.gpu->device_memory = 48 * kGiB;
  in_.gpu->device_weights = 40 * kGiB;
  const PassCost c = cost(decodes(100, 100));
  EXPECT_LT(c.link, 1e-3) << "but for the rows of the embedding";
  EXPECT_LT(c.wait, 0.05 * c.seconds);
  EXPECT_GE(c.seconds, work_.expert_bytes() / 1e12) << "HBM gives them all";
  in_.gpu->device_weights = 0;
  EXPECT_GE(cost(decodes(100, 100)).link, 0.99 * work_.expert_bytes() / 2e10);
}

// Whatever the bytes round to, nothing comes from storage, of which no rate is known.
TEST_F(GpuPassCostTest, WeightsInBothMemoriesNeedNoStorage) {
  machine_.ssd.reset();
  Plan plan = make_plan(in_);
  for (const uint64_t bytes : {uint64_t{1'000'003}, 3 * kGiB + 7, 5 * kGiB + 1, 7 * kGiB + 12345}) {
    plan.gpu->device_weights = static_cast<double>(bytes);
    plan.gpu->host_weights = (work_.fixed_bytes() + work_.expert_bytes()) * (1 - 1e-12) - plan.gpu->device_weights;
    plan.gpu->storage_weights = 0;
    const PassCost c = GpuPassCosts(spec_, work_, machine_, plan).of(decodes(100, 100));
    EXPECT_TRUE(std::isfinite(c.seconds)) << bytes;
    EXPECT_EQ(c.bytes_read, 0) << bytes;
  }
}

TEST_F(GpuPassCostTest, OnlyExpertsThatTokensReachAreCopiedButNotInStaticBatches) {
  const double all = (work_.expert_bytes() + work_.fixed_bytes()) / 2e10;
  EXPECT_LT(cost(decodes(1, 1)).link, 0.15 * all);
  in_.gpu->static_batches = true;
  EXPECT_GT(cost(decodes(1, 1)).link, 0.95 * all);
}

TEST_F(GpuPassCostTest, TheCpuSparesTheLinkKAndV) {
  in_.gpu->device_memory = 4 * kGiB;
  in_.gpu->device_weights = 3 * kGiB;  // no room for pages
  in_.gpu->cpu_attention_share = 1;
  const PassCost c = cost(decodes(4000, 1000));
  in_.gpu->cpu_attention_share = 0;
  const PassCost none = cost(decodes(4000, 1000));
  const double kv_bytes = 12 * 4000 * 1000.0 * work_.layers[0].kv_bytes;
  EXPECT_NEAR(none.link - c.link, kv_bytes / 2e10, 0.05 * kv_bytes / 2e10);
  EXPECT_EQ(none.cpu, 0);
  EXPECT_NEAR(c.cpu, kv_bytes / (machine_.dram.bandwidth - 2e10), 1e-6);
}

TEST_F(GpuPassCostTest, ExpertsOfFewTokensOnTheCpuSpareTheLink) {
  const auto gain = [&](const PassLoad& load) {
    in_.gpu->cpu_experts = nullptr;
    const PassCost none = cost(load);
    EXPECT_EQ(none.cpu, 0);
    in_.gpu->cpu_experts = &machine_;
    const PassCost c = cost(load);
    EXPECT_GE(c.seconds, std::max({c.gpu, c.cpu, c.link, c.dram}) * (1 - 1e-9));
    return std::pair(c.link / none.link, c.seconds / none.seconds);
  };
  in_.gpu->device_weights = static_cast<uint64_t>(work_.fixed_bytes());
  const auto few = gain(decodes(32, 50));
  EXPECT_NEAR(few.first, 0.5, 0.05) << "the link leaves the CPU as much of DRAM as it takes itself";
  EXPECT_LT(few.second, 0.65);
  const auto many = gain(decodes(8192, 50));
  EXPECT_GT(many.first, 0.95) << "there is room for two experts of 512 tokens";
  EXPECT_LT(many.second, 1.02);
  in_.weight_memory = 1 << 20;
  EXPECT_NEAR(gain(decodes(32, 50)).first, 1, 0.01) << "what comes from storage goes to the GPU";
}

TEST_F(GpuPassCostTest, TheSlowestResourceSetsThePace) {
  const PassCost by_link = cost(decodes(4000, 50));
  EXPECT_LE(by_link.seconds, 1.1 * by_link.link);
  const PassCost by_gpu = cost(prompts(200, 500));
  EXPECT_LE(by_gpu.seconds, 1.1 * by_gpu.gpu);
  in_.host_memory = 8 * kGiB;
  in_.weight_memory = 1 * kGiB;
  const PassCost by_ssd = cost(decodes(4000, 50));
  EXPECT_LE(by_ssd.seconds, 1.1 * by_ssd.storage);
  machine_.ssd.reset();
  EXPECT_NE(std::string(error_of([&] { static_cast<void>(cost(decodes(1, 1))); }).what()).find("no rate of its storage"), std::string::npos);
}

// What is told of a pass: each resource does one thing after the other, all bytes cross, and nothing is used before it is there.
TEST_F(GpuPassCostTest, TasksOfAResourceFollowOneAnother) {
  in_.gpu->cpu_attention_share = 0.5;
  in_.gpu->cpu_experts = &machine_;
  in_.host_memory = 12 * kGiB;
  in_.weight_memory = 4 * kGiB;
  std::map<PassTask::Resource, double> end, busy, bytes;
  const PassCost c = cost(decodes(4000, 500), [&](const PassTask& t) {
    EXPECT_GE(t.begin, end.try_emplace(t.resource, t.begin).first->second - 1e-9) << t.name << t.layer;
    end[t.resource] = t.end;
    busy[t.resource] += t.end - t.begin;
    bytes[t.resource] += t.bytes;
  });
  EXPECT_NEAR(busy[PassTask::Resource::gpu], c.gpu, 1e-6);
  EXPECT_NEAR(busy[PassTask::Resource::cpu], c.cpu, 1e-6);
  EXPECT_NEAR(busy[PassTask::Resource::h2d], c.link, 1e-6);
  EXPECT_NEAR(bytes[PassTask::Resource::ssd], c.bytes_read, 1);
}

TEST_F(GpuPassCostTest, BudgetsHoldAndRefusalsHaveNumbers) {
  for (const uint64_t device : {2 * kGiB, 8 * kGiB, 64 * kGiB}) {
    for (const uint64_t host : {2 * kGiB, 16 * kGiB, 64 * kGiB}) {
      in_.gpu->device_memory = device;
      in_.gpu->device_weights.reset();
      in_.host_memory = host;
      const Plan plan = make_plan(in_);
      const auto sum = [](const auto& memory) {
        return std::accumulate(memory.begin(), memory.end(), uint64_t{0}, [](uint64_t s, const auto& part) { return s + part.second; });
      };
      EXPECT_LE(sum(plan.memory), host);
      EXPECT_LE(sum(plan.gpu->memory), device);
      EXPECT_NEAR(plan.gpu->device_weights + plan.gpu->host_weights + plan.gpu->storage_weights, work_.fixed_bytes() + work_.expert_bytes(), 1);
    }
  }
  in_.gpu->device_memory = uint64_t{100} << 20;
  EXPECT_NE(std::string(error_of([&] { static_cast<void>(make_plan(in_)); }).what()).find("--device-memory 100.0 MiB is too small"),
            std::string::npos);
  in_.gpu->device_memory = 8 * kGiB;
  in_.gpu->storage = 0;
  in_.host_memory = 2 * kGiB;
  EXPECT_NE(std::string(error_of([&] { static_cast<void>(make_plan(in_)); }).what()).find("--host-memory 2.0 GiB is too small"), std::string::npos);
}

}  // namespace
}  // namespace moegen
