#include "plan/device_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "plan/gpu_pass_cost.h"
#include "spec/families.h"
#include "tests/spec/configs.h"
#include "tests/support/errors.h"
#include "tests/support/machines.h"

namespace moegen {
namespace {

using ::testing::ElementsAre;

constexpr uint64_t kMiB = 1 << 20;

std::vector<uint8_t> chosen(const CpuExperts& plan, const std::vector<int32_t>& rows, const std::vector<uint8_t>& streams) {
  std::vector<int32_t> begin{0};
  for (const int32_t r : rows) begin.push_back(begin.back() + r);
  std::vector<uint8_t> out;
  const int64_t sum = choose_cpu_experts(plan, begin, streams, out);
  int64_t want = 0;
  for (size_t e = 0; e < rows.size(); ++e) want += out[e] != 0 ? rows[e] : 0;
  EXPECT_EQ(sum, want);
  return out;
}

TEST(CpuExpertsTest, ThoseWithFewTokensThatStream) {
  const std::vector<int32_t> rows{3, 0, 9, 4, 1, 2};
  const std::vector<uint8_t> streams{1, 1, 1, 1, 1, 0};
  EXPECT_THAT(chosen({}, rows, streams), ElementsAre(0, 0, 0, 0, 0, 0));
  EXPECT_THAT(chosen({.most_tokens = 4, .most_rows = 100}, rows, streams), ElementsAre(1, 0, 0, 1, 1, 0));
  EXPECT_THAT(chosen({.most_tokens = 4, .most_rows = 4}, rows, streams), ElementsAre(1, 0, 0, 0, 1, 0)) << "as many as there is room for";
  EXPECT_THAT(chosen({.most_tokens = 100, .most_rows = 100}, rows, streams), ElementsAre(1, 0, 1, 1, 1, 0));
}

TEST(CpuExpertsTest, TheCpuIsDoneWhenTheLinkIs) {
  const std::vector<int32_t> rows(10, 1);
  const std::vector<uint8_t> streams(10, 1);
  CpuExperts plan{.most_tokens = 100, .most_rows = 100, .copy_seconds = 4, .weight_seconds = 1, .token_seconds = 0.1};
  const auto count = [&] {
    const auto on_cpu = chosen(plan, rows, streams);
    return std::accumulate(on_cpu.begin(), on_cpu.end(), 0);
  };
  EXPECT_EQ(count(), 8) << "8 x 1 against 2 x 4";
  EXPECT_NEAR(plan.share_of(10, 1), 0.8, 1e-9);
  plan.weight_seconds = 4;
  EXPECT_EQ(count(), 5);
  plan.weight_seconds = 400;
  EXPECT_EQ(count(), 0);
  plan.weight_seconds = 0.5;
  plan.token_seconds = 4;
  EXPECT_THAT(chosen(plan, {1, 50, 2, 70}, {1, 1, 1, 1}), ElementsAre(1, 0, 0, 0)) << "one expert of many tokens would take longer than the link";
}

class DevicePlanTest : public ::testing::Test {
 protected:
  DevicePlanTest()
      : spec_(read_spec(Config(qwen3_moe_config(), "config.json"))),
        table_(tensor_table(spec_)),
        units_(weight_units(table_, DType::bf16)),
        work_(model_work(spec_, table_, DType::bf16, DType::bf16)),
        machine_(round_gpu_machine(16 * kMiB)) {
    in_ = budget_for(spec_, work_, units_, 512 * kMiB);
    in_.gpu.emplace();
    in_.device = &device_;
    in_.max_model_len = 256;
    device_.units = units_;
    device_.weight_bytes = in_.weight_bytes;
  }

  static uint64_t sum_of(const std::vector<std::pair<std::string, uint64_t>>& memory) {
    return std::accumulate(memory.begin(), memory.end(), uint64_t{0}, [](uint64_t sum, const auto& part) { return sum + part.second; });
  }
  // Of device memory, by search.
  uint64_t least_memory() {
    uint64_t low = 0, high = uint64_t{1} << 32;
    while (high - low > 1) {
      device_.memory = (low + high) / 2;
      try {
        static_cast<void>(make_plan(in_));
        high = device_.memory;
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::out_of_memory);
        low = device_.memory;
      }
    }
    return high;
  }

  ModelSpec spec_;
  std::vector<TensorSpec> table_;
  std::vector<WeightUnit> units_;
  ModelWork work_;
  Machine machine_;
  DeviceBudget device_;
  PlanInput in_;
};

TEST_F(DevicePlanTest, EverythingStaysWithinBothBudgets) {
  in_.max_pass_tokens = 64;
  const uint64_t least = least_memory();
  device_.memory = least - 1;
  EXPECT_ERROR(make_plan(in_), ErrorCode::out_of_memory, std::to_string(least));
  for (const uint64_t more : {uint64_t{0}, uint64_t{1}, kMiB / 4, kMiB, 64 * kMiB}) {
    for (const double share : {0.0, 0.5}) {
      device_.memory = least + kMiB / 2 + more;
      in_.gpu->cpu_attention_share = share;
      device_.cpu_expert_tokens = share > 0 ? 8 : 0;
      const Plan plan = make_plan(in_);
      EXPECT_LE(sum_of(plan.gpu->memory), device_.memory);
      EXPECT_LE(sum_of(plan.memory), in_.host_memory);
      EXPECT_EQ(plan.sizes.cpu_attention_rows > 0, share > 0);
    }
  }
}

TEST_F(DevicePlanTest, PassesShrinkWhereHostMemoryIsShort) {
  device_.memory = 512 * kMiB;
  const Plan wide = make_plan(in_);
  in_.host_memory = in_.process_bytes + 24 * kMiB;
  const Plan narrow = make_plan(in_);
  EXPECT_LT(narrow.sizes.pass_tokens, wide.sizes.pass_tokens);
  EXPECT_LE(sum_of(narrow.memory), in_.host_memory);
  in_.max_pass_tokens = wide.sizes.pass_tokens;  // asked for
  EXPECT_ERROR(make_plan(in_), ErrorCode::out_of_memory, "--max-pass-tokens");
}

// The device would hold all, but what stays there has to be in host memory too.
TEST_F(DevicePlanTest, AModelThatFitsTheDeviceAloneStreams) {
  device_.memory = 512 * kMiB;
  in_.max_pass_tokens = 64;
  EXPECT_TRUE(make_plan(in_).device->weights.streamed.empty());
  for (int percent = 95; percent >= 60; percent -= 5) {
    in_.weight_memory = in_.weight_bytes * static_cast<uint64_t>(percent) / 100;
    const Plan plan = make_plan(in_);
    EXPECT_FALSE(plan.weights.streamed.empty()) << percent;
    EXPECT_LE(plan.weights.bytes(), *in_.weight_memory) << percent;
  }
}

// What the context takes is part of --device-memory, and named.
TEST_F(DevicePlanTest, TheOverheadIsLeftFree) {
  in_.max_pass_tokens = 64;
  const uint64_t least = least_memory();
  device_.overhead = 20 * kMiB;
  EXPECT_EQ(least_memory(), least + 20 * kMiB);
  device_.memory = kMiB;
  EXPECT_ERROR(make_plan(in_), ErrorCode::out_of_memory, "--device-memory 1.0 MiB is too small: at least");
  EXPECT_ERROR(make_plan(in_), ErrorCode::out_of_memory, "20.0 MiB for the context");
  device_.memory = 64 * kMiB;
  EXPECT_LE(sum_of(make_plan(in_).gpu->memory), 64 * kMiB);
  EXPECT_GE(sum_of(make_plan(in_).gpu->memory), 20 * kMiB);
}

TEST_F(DevicePlanTest, TheCpuHasExpertsOnlyWhereSomeStream) {
  device_.memory = 256 * kMiB;
  device_.cpu_expert_tokens = 8;
  Plan plan = make_plan(in_);
  EXPECT_TRUE(plan.device->weights.streamed.empty());
  EXPECT_EQ(plan.sizes.cpu_expert_rows, 0);
  EXPECT_FALSE(plan.gpu->cpu_experts.any());
  in_.max_pass_tokens = 64;
  device_.memory = least_memory();
  plan = make_plan(in_);
  EXPECT_FALSE(plan.device->weights.streamed.empty());
  EXPECT_EQ(plan.gpu->cpu_experts.most_tokens, 8);
  EXPECT_FALSE(plan.gpu->cpu_experts.balanced());
  device_.cpu_expert_tokens = 0;
  EXPECT_FALSE(make_plan(in_).gpu->cpu_experts.any());
  device_.cpu_expert_tokens.reset();
  EXPECT_FALSE(make_plan(in_).gpu->cpu_experts.any()) << "no rates are known";
  device_.machine = &machine_;
  device_.memory = least_memory();
  plan = make_plan(in_);
  EXPECT_TRUE(plan.gpu->cpu_experts.balanced());
  EXPECT_DOUBLE_EQ(plan.gpu->cpu_experts.copy_seconds, static_cast<double>(plan.device->weights.slot_bytes) / 2e10);
}

TEST_F(DevicePlanTest, ExpertsOnTheCpuSpareTheLink) {
  in_.max_pass_tokens = 64;
  device_.machine = &machine_;
  device_.memory = least_memory();
  machine_.link->d2h = 1e12;
  const auto cost = [&] {
    const Plan plan = make_plan(in_);
    return GpuPassCosts(spec_, work_, machine_, plan).of({.decodes = 16, .decode_keys = 32, .logit_rows = 16});
  };
  const PassCost with = cost();
  device_.cpu_expert_tokens = 1000;
  EXPECT_GT(cost().cpu, with.cpu) << "all of them";
  device_.cpu_expert_tokens = 0;
  const PassCost without = cost();
  EXPECT_LT(with.link, 0.8 * without.link);
  EXPECT_GT(with.cpu, 0);
  EXPECT_EQ(without.cpu, 0);
  EXPECT_LE(with.cpu, with.seconds);
}

TEST_F(DevicePlanTest, GeneratedTokensBringTheirWholePageBack) {
  machine_.link->d2h = 1e6;
  device_.memory = 256 * kMiB;
  const PassLoad load{.decodes = 16, .decode_keys = 1600, .logit_rows = 16};
  const auto link = [&](double share) {
    in_.gpu->cpu_attention_share = share;
    const Plan plan = make_plan(in_);
    return GpuPassCosts(spec_, work_, machine_, plan).of(load).link;
  };
  double kv = 0, queries = 0;
  for (const LayerWork& l : work_.layers) {
    kv += l.kv_bytes;
    queries += l.query_bytes;
  }
  EXPECT_NEAR(link(0), 16 * 32 * kv / 1e6, 1e-9);
  EXPECT_NEAR(link(1), 16 * (kv + queries) / 1e6, 1e-9) << "but not those that attend on the CPU";
}

// Linear attention: states of all sequences are in host memory, a third of it where nothing is asked for; what is projected goes to the CPU.
TEST_F(DevicePlanTest, StatesStayInHostMemory) {
  AttentionSpec& a = spec_.layers[0].attention;
  a = {};
  a.num_heads = 8;
  a.head_dim = 128;
  a.delta = {.key_heads = 4, .value_heads = 8, .key_dim = 128, .value_dim = 128, .taps = 4};
  device_.memory = 256 * kMiB;
  const Plan plan = make_plan(in_);
  const uint64_t states = plan.kv.state_bytes() * static_cast<uint64_t>(plan.sizes.sequences);
  EXPECT_THAT(plan.memory, ::testing::Contains(std::pair<std::string, uint64_t>("recurrent states", states)));
  EXPECT_LE(states, in_.host_memory / 3);
  EXPECT_GT(states, in_.host_memory / 4);
  EXPECT_LE(sum_of(plan.memory), in_.host_memory);
  EXPECT_EQ(cpu_sizes(plan.sizes).pass_tokens, plan.sizes.cpu_linear_rows);
  in_.max_num_seqs = 4 * plan.sizes.sequences;
  in_.max_pass_tokens = plan.sizes.pass_tokens;
  EXPECT_ERROR(make_plan(in_), ErrorCode::out_of_memory, "--host-memory");

  machine_.link->d2h = 1e6;
  const PassCost cost = GpuPassCosts(spec_, work_, machine_, plan).of({.decodes = 16, .decode_keys = 1600, .logit_rows = 16});
  double pages = 0;
  for (size_t l = 1; l < work_.layers.size(); ++l) pages += 16 * kPageTokens * work_.layers[l].kv_bytes;
  EXPECT_NEAR(cost.link, (16.0 * a.delta.projected_width() * sizeof(float) + pages) / 1e6, 1e-6);
  EXPECT_DOUBLE_EQ(cost.cpu, machine_.delta_seconds(a.delta, 16, 16));
}

}  // namespace
}  // namespace moegen
