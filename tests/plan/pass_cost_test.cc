#include "plan/pass_cost.h"

#include <gtest/gtest.h>

#include "spec/families.h"
#include "tests/spec/configs.h"
#include "tests/support/errors.h"
#include "tests/support/machines.h"

namespace moegen {
namespace {

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
            {"num_hidden_layers", 4},
            {"decoder_sparse_step", 1},
            {"vocab_size", 32000}});
  return read_spec(Config(c, "config.json"));
}

class PassCostTest : public ::testing::Test {
 protected:
  PassCostTest() : spec_(wide_spec()), machine_(round_machine()), work_(work_of(spec_)), units_(weight_units(tensor_table(spec_), DType::bf16)) {
    in_ = budget_for(spec_, work_, units_, uint64_t{32} << 30);
  }

  PassCost cost(const PassLoad& load) {
    const Plan plan = make_plan(in_);
    return PassCosts(spec_, work_, machine_, plan, in_.units).of(load);
  }

  // `streamed` of the experts' bytes come through `slots`.
  void stream(double streamed, int64_t slots) {
    const uint64_t least = least_weight_bytes({in_.units, in_.weight_bytes, slots});
    in_.weight_memory = least + static_cast<uint64_t>((1 - streamed) * static_cast<double>(in_.weight_bytes - least));
    in_.weight_slots = slots;
  }

  static PassLoad decodes(double count, double context) { return {count, count * context, 0, 0, count, 0}; }
  static PassLoad prompts(double count, double length) { return {0, 0, count * length, count * length * (length + 1) / 2, count, 0}; }

  ModelSpec spec_;
  Machine machine_;
  ModelWork work_;
  std::vector<WeightUnit> units_;
  PlanInput in_;
};

// Few tokens wait for weights, and experts in MXFP4 have 17 bits of what 64 were: router, attention and head stay.
TEST_F(PassCostTest, CodedWeightsCostTheirBytes) {
  machine_.cpu.bf16_flops = machine_.cpu.attention_flops = 1e18;
  const PassCost plain = cost(decodes(8, 1));
  for (LayerWork& layer : work_.layers) layer.experts = {DType::f4, 4.25 / 8, 32};
  const PassCost coded = cost(decodes(8, 1));
  EXPECT_NEAR(coded.experts, plain.experts * 17 / 64, 1e-9);
  EXPECT_NEAR(coded.dram, plain.dram - plain.experts * 47 / 64, 1e-9);
  EXPECT_NEAR(coded.projections, plain.projections, 1e-12);
}

TEST_F(PassCostTest, KeysOfInt8HaveTheirScalesWithThem) {
  EXPECT_DOUBLE_EQ(kv_token_bytes({32, 4, 128}, DType::bf16), 2.0 * 4 * 128 * 2);
  EXPECT_DOUBLE_EQ(kv_token_bytes({32, 4, 128}, DType::i8), 2.0 * 4 * (128 + 4));
  EXPECT_DOUBLE_EQ(kv_token_bytes({16, 1, 576, 512}, DType::bf16), 576.0 * 2);
}

TEST_F(PassCostTest, LayersAddUpToThePass) {
  stream(0.5, 8);
  const Plan plan = make_plan(in_);
  const PassCosts costs(spec_, work_, machine_, plan, in_.units);
  PassCost sum;
  int64_t layers = 0;
  const PassCost all = costs.of(decodes(512, 100), [&](int64_t layer, const PassCost& of) {
    EXPECT_EQ(layer, layers++);
    EXPECT_GT(of.bytes_read, 0);
    sum.add(of);
  });
  EXPECT_EQ(layers, 4);
  EXPECT_GT(all.wait, 0);
  EXPECT_NEAR(sum.wait, all.wait, 1e-9);
  EXPECT_NEAR(sum.bytes_read, all.bytes_read, 1);
  EXPECT_NEAR(sum.experts, all.experts, 1e-9);
  EXPECT_NEAR(sum.attention, all.attention, 1e-9);
  EXPECT_NEAR(sum.projections, all.projections, 1e-9);
  EXPECT_LT(sum.rows, all.rows) << "embeddings are of no layer";
}

TEST_F(PassCostTest, PartsAddUpAndMoreTakesLonger) {
  double before = 0;
  for (double count = 1; count <= 4096; count *= 2) {
    for (const PassLoad& load : {decodes(count, 100), prompts(count, 100)}) {
      const PassCost c = cost(load);
      EXPECT_NEAR(c.cpu, c.projections + c.attention + c.experts + c.logits + c.rows, 1e-9 * c.cpu);
      EXPECT_DOUBLE_EQ(c.seconds, c.cpu) << "nothing streams";
      EXPECT_EQ(c.storage, 0);
      EXPECT_LE(std::max(c.dram, c.flops), c.cpu * 1.001) << "no roof is exceeded";
    }
    const double now = cost(decodes(count, 100)).seconds;
    EXPECT_GT(now, before);
    before = now;
  }
}

// One token reads 8 experts of every layer, thousands read all, and then arithmetic is what takes time.
TEST_F(PassCostTest, ExpertsAreReadOnceAPassAndComputedForEveryToken) {
  const double expert_bytes = 3.0 * 2048 * 768 * 2;
  EXPECT_NEAR(cost(decodes(1, 1)).experts, 4 * 8 * expert_bytes / 4e10, 1e-6);
  EXPECT_NEAR(cost(decodes(8192, 1)).experts, 4 * 8192 * 8 * expert_bytes / 1e12, 1e-6) << "as many FLOPs a token as bytes of its experts";
}

TEST_F(PassCostTest, AttentionReadsKAndVOnceAGeneratedToken) {
  EXPECT_NEAR(cost(decodes(64, 1000)).attention, 64 * 1000 * 4 * 2.0 * 4 * 128 * 2 / 4e10, 1e-9);
  EXPECT_NEAR(cost(prompts(2, 1000)).attention, 4 * 2 * 500500.0 * 4 * 32 * 128 / 5e11, 1e-9);
  for (LayerSpec& layer : spec_.layers) layer.attention.window = 100;
  EXPECT_NEAR(cost(decodes(64, 1000)).attention, 64 * 100 * 4 * 2.0 * 4 * 128 * 2 / 4e10, 1e-9);
}

TEST_F(PassCostTest, AStreamedPassTakesAsLongAsTheSlowerOfTheTwo) {
  for (const double count : {100.0, 1000.0, 4000.0}) {
    stream(0.75, 64);
    const PassCost c = cost(decodes(count, 64));
    EXPECT_GE(c.seconds, std::max(c.cpu, c.storage) * 0.999);
    EXPECT_LE(c.seconds, std::max(c.cpu, c.storage) * 1.15) << count;
    EXPECT_NEAR(c.seconds, c.cpu + c.wait, 1e-12);
    EXPECT_NEAR(c.storage, c.bytes_read / 2e9, 1e-9);
  }
}

TEST_F(PassCostTest, ASmallRingWaits) {
  double before = 1e9;
  for (const int64_t slots : {2, 8, 32, 100}) {
    stream(0.5, slots);
    const double now = cost(decodes(2500, 64)).wait;
    EXPECT_LE(now, before * 1.001) << slots;
    before = now;
  }
  stream(0.5, 2);
  EXPECT_GT(cost(decodes(2500, 64)).wait, 2 * before);
}

// What is not known before the router cannot be read before it.
TEST_F(PassCostTest, FewTokensReadLessAndWaitForTheRouter) {
  stream(1, 64);
  const PassCost one = cost(decodes(1, 64));
  EXPECT_NEAR(one.bytes_read, 4 * 8 * 9.4e6, 4 * 8 * 0.1e6);
  EXPECT_NEAR(one.seconds, one.storage + one.cpu - one.experts, 0.1 * one.seconds) << "experts run while the next are read, all else does not";
}

TEST_F(PassCostTest, WithoutARateOfTheStorageNothingStreams) {
  machine_.ssd.reset();
  EXPECT_GT(cost(decodes(1, 1)).seconds, 0);
  stream(0.5, 4);
  EXPECT_NE(std::string(error_of([&] { static_cast<void>(cost(decodes(1, 1))); }).what()).find("whose rate is not known: give ssd.read_bandwidth"),
            std::string::npos);
}

TEST(PassLoad, CountsKeysOfPromptsAndGeneratedTokens) {
  const std::vector<int32_t> tokens(14);
  const std::vector<int32_t> rows{0, 3, 13};
  const std::vector<PassSequence> sequences{{0, 1, 7, nullptr}, {1, 3, 0, nullptr}, {4, 10, 20, nullptr}};
  const PassLoad load = load_of({tokens, sequences, rows});
  EXPECT_EQ(load.decodes, 1);
  EXPECT_EQ(load.decode_keys, 8);
  EXPECT_EQ(load.prompt_tokens, 13);
  EXPECT_EQ(load.prompt_keys, 1 + 2 + 3 + 10 * 20 + 55);
  EXPECT_EQ(load.chunk_ends, 3 + 30);
  EXPECT_EQ(load.logit_rows, 3);
}

}  // namespace
}  // namespace moegen
