#include "plan/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <numeric>
#include <random>

#include "spec/families.h"
#include "tests/spec/configs.h"
#include "tests/support/errors.h"

namespace moegen {
namespace {

constexpr uint64_t kMiB = 1 << 20;

class PlanTest : public ::testing::Test {
 protected:
  PlanTest() : spec_(read_spec(Config(mixtral_config(), "config.json"))) {
    in_.spec = &spec_;
    in_.weight_bytes = 10 * kMiB;
    in_.process_bytes = 5 * kMiB;
    in_.host_memory = 200 * kMiB;
    in_.threads = 2;
  }

  static uint64_t sum_of(const Plan& plan) {
    return std::accumulate(plan.memory.begin(), plan.memory.end(), uint64_t{0}, [](uint64_t sum, const auto& part) { return sum + part.second; });
  }

  uint64_t activations(const PassSizes& sizes) const {
    Arena measure;
    const Buffers buffers(measure, spec_, in_.act, sizes);
    return measure.used();
  }

  // The number behind "at least" of a refusal, as exactly as it can be known: by search.
  uint64_t least_memory() {
    uint64_t low = 0, high = uint64_t{1} << 40;
    while (high - low > 1) {
      in_.host_memory = (low + high) / 2;
      try {
        static_cast<void>(make_plan(in_));
        high = in_.host_memory;
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::out_of_memory);
        low = in_.host_memory;
      }
    }
    return high;
  }

  ModelSpec spec_;
  PlanInput in_;
};

TEST_F(PlanTest, AllMemoryTogetherStaysWithinTheBudgetForAnyOptions) {
  std::mt19937 random(5);
  const auto maybe = [&](int64_t high) {
    return random() % 2 == 0 ? std::optional<int64_t>(1 + static_cast<int64_t>(random() % static_cast<uint32_t>(high))) : std::nullopt;
  };
  int planned = 0;
  for (int i = 0; i < 2000; ++i) {
    in_.host_memory = 15 * kMiB + random() % (400 * kMiB);
    in_.kv_memory = random() % 2 == 0 ? std::optional<uint64_t>(random() % (200 * kMiB)) : std::nullopt;
    in_.max_model_len = maybe(4096);
    in_.max_num_seqs = maybe(3000);
    in_.max_pass_tokens = maybe(9000);
    in_.attention_micro_batch = maybe(5000);
    in_.expert_micro_batch = maybe(5000);
    in_.act = random() % 2 == 0 ? DType::f32 : DType::bf16;
    in_.kv_dtype = random() % 2 == 0 ? DType::i8 : in_.act;
    Plan plan;
    try {
      plan = make_plan(in_);
    } catch (const Error& e) {
      ASSERT_EQ(e.code(), ErrorCode::out_of_memory) << e.what();
      continue;
    }
    ++planned;
    ASSERT_LE(sum_of(plan), in_.host_memory);
    ASSERT_GE(plan.kv_pages, 1);
    if (in_.kv_memory) {
      ASSERT_LE(static_cast<uint64_t>(plan.kv_pages) * plan.kv.page_bytes, *in_.kv_memory);
    }
    ASSERT_EQ(plan.memory[1].second, activations(plan.sizes)) << "what is planned for activations is what the buffers take";
    const PassSizes& s = plan.sizes;
    for (const int64_t size : {s.sequences, s.wave_tokens, s.attention_micro_batch, s.expert_micro_batch, s.logit_rows})
      ASSERT_TRUE(size >= 1 && size <= s.pass_tokens);
    ASSERT_LE(s.attention_micro_batch, s.sequences);
    if (in_.max_pass_tokens) {
      ASSERT_EQ(s.pass_tokens, *in_.max_pass_tokens);
    }
    if (in_.max_num_seqs) {
      ASSERT_LE(s.sequences, *in_.max_num_seqs);
    }
    if (in_.max_model_len) {
      ASSERT_EQ(plan.max_model_len, *in_.max_model_len);
    }
  }
  EXPECT_GT(planned, 500);
}

// The pages' token ids and tables are paid from host memory too: they once went unpaid where --kv-memory was given.
TEST_F(PlanTest, KvMemoryThatFillsTheRestToTheLastByteLeavesNoRoomForItsTables) {
  in_.max_pass_tokens = 64;
  const uint64_t page = KvLayout(spec_, in_.kv_dtype).page_bytes;
  in_.kv_memory = 100 * page;
  const uint64_t least = least_memory();
  in_.host_memory = least;
  const Plan plan = make_plan(in_);
  EXPECT_EQ(plan.kv_pages, 100);
  EXPECT_EQ(sum_of(plan), least);
}

TEST_F(PlanTest, TooLittleIsRefusedWithTheLeastThatWouldDo) {
  const uint64_t least = least_memory();
  in_.host_memory = least - 1;
  const std::string text = error_of([&] { static_cast<void>(make_plan(in_)); }).what();
  EXPECT_THAT(text, ::testing::HasSubstr("--host-memory 32"));
  EXPECT_THAT(text, ::testing::HasSubstr("too small"));
  EXPECT_THAT(text, ::testing::HasSubstr("10.0 MiB weights, 5.0 MiB the process"));
  in_.host_memory = 1;  // whatever is given, the same least is named
  const std::string named = error_of([&] { static_cast<void>(make_plan(in_)); }).what();
  EXPECT_EQ(named.substr(named.find("at least")), text.substr(text.find("at least")));
  in_.host_memory = least;
  EXPECT_EQ(sum_of(make_plan(in_)), least) << "and at the least nothing is left over";
}

TEST_F(PlanTest, MoreMemoryNeverMeansLess) {
  in_.max_pass_tokens = 256;
  int32_t pages = 0;
  for (uint64_t memory = least_memory(); memory < 100 * kMiB; memory += 777'777) {
    in_.host_memory = memory;
    const Plan plan = make_plan(in_);
    ASSERT_GE(plan.kv_pages, pages) << memory;
    pages = plan.kv_pages;
  }
  in_.max_pass_tokens.reset();
  int64_t tokens = 0;
  for (uint64_t memory = least_memory(); memory < 400 * kMiB; memory += 777'777) {
    in_.host_memory = memory;
    const Plan plan = make_plan(in_);
    ASSERT_GE(plan.sizes.pass_tokens, tokens) << memory;
    tokens = plan.sizes.pass_tokens;
    ASSERT_TRUE(tokens == 64 || 3 * activations(plan.sizes) <= memory - in_.weight_bytes - in_.process_bytes) << "two thirds are for the pages";
  }
  EXPECT_EQ(tokens, 4096) << "with enough of it, the default";
}

TEST_F(PlanTest, NoMorePagesThanTheSequencesCanFill) {
  in_.host_memory = uint64_t{1} << 36;
  in_.max_num_seqs = 3;
  in_.max_model_len = 33;
  EXPECT_EQ(make_plan(in_).kv_pages, 6) << "three sequences of two pages";
}

TEST_F(PlanTest, KvMemoryBelowOnePageIsRefusedWithItsSize) {
  const uint64_t page = KvLayout(spec_, in_.kv_dtype).page_bytes;
  in_.kv_memory = page - 1;
  EXPECT_ERROR(make_plan(in_), ErrorCode::out_of_memory, "at least " + std::to_string(page) + " bytes");
  in_.kv_memory = page;
  EXPECT_EQ(make_plan(in_).kv_pages, 1);
  in_.kv_memory = 0;
  EXPECT_ERROR(make_plan(in_), ErrorCode::out_of_memory, "--kv-memory 0 bytes");
}

// Every other layer through a window of 64: of a long sequence, it has three pages.
TEST_F(PlanTest, LayersWithWindowsHavePagesOfTheirOwn) {
  in_.kv_memory = 40 * kMiB;
  const Plan all = make_plan(in_);
  spec_.layers.resize(4, spec_.layers[0]);
  spec_.layers[0].attention.window = spec_.layers[2].attention.window = 64;
  const Plan plan = make_plan(in_);
  EXPECT_EQ(plan.kv.num_groups(), 2);
  EXPECT_EQ(plan.kv_pages, static_cast<int32_t>(40 * kMiB / plan.kv.page_bytes));
  EXPECT_THAT(plan.describe()[2], ::testing::HasSubstr("2 for every 32 tokens, 1 of them given back behind a window of 64"));
  EXPECT_THAT(all.describe()[2], ::testing::Not(::testing::HasSubstr("every")));
  in_.max_num_seqs = 3;
  in_.max_pass_tokens = 64;
  in_.max_model_len = 3200;
  EXPECT_EQ(make_plan(in_).kv_pages, 3 * (100 + 5)) << "of a pass of 64 tokens, the first sees 63 before";
  in_.kv_memory = 2 * plan.kv.page_bytes - 1;
  EXPECT_ERROR(make_plan(in_), ErrorCode::out_of_memory, "the pages of 32 tokens: at least " + std::to_string(2 * plan.kv.page_bytes) + " bytes");
}

// A page of a sequence that is longer than its windows stands for more tokens, whose ids and text are paid for too.
TEST_F(PlanTest, TokensBehindAWindowArePaidFor) {
  spec_.layers[0].attention.window = 0;
  for (LayerSpec& layer : spec_.layers) layer.attention.window = 64;
  const KvLayout kv(spec_, DType::bf16);
  EXPECT_EQ(page_cost(kv, 64) - kv.page_bytes, 32U * 16 + 4);
  EXPECT_EQ(page_cost(kv, 3200) - kv.page_bytes, (3200U * 16 + 400 + 2) / 3) << "100 rows, of which it has 3";
}

TEST_F(PlanTest, KvMemoryBeyondTheHostsIsRefused) {
  for (const uint64_t kv : {in_.host_memory, uint64_t{1} << 62, ~uint64_t{0}}) {
    in_.kv_memory = kv;
    EXPECT_ERROR(make_plan(in_), ErrorCode::out_of_memory, "for this --kv-memory");
  }
}

TEST_F(PlanTest, WeightMemoryBelowTheWeightsIsRefused) {
  in_.weight_memory = 10 * kMiB - 1;
  EXPECT_ERROR(make_plan(in_), ErrorCode::out_of_memory, "--weight-memory");
  in_.weight_memory = 10 * kMiB;
  EXPECT_NO_THROW(static_cast<void>(make_plan(in_)));
}

TEST_F(PlanTest, ContextIsAtMostTheModels) {
  EXPECT_EQ(make_plan(in_).max_model_len, 4096);
  in_.max_model_len = 4097;
  EXPECT_ERROR(make_plan(in_), ErrorCode::invalid_argument, "--max-model-len 4097 is beyond the 4096 positions");
}

TEST_F(PlanTest, OptionsOutOfRangeAreNamed) {
  const std::vector<std::pair<std::optional<int64_t> PlanInput::*, const char*>> options = {
      {&PlanInput::max_model_len, "--max-model-len"},
      {&PlanInput::max_num_seqs, "--max-num-seqs"},
      {&PlanInput::max_pass_tokens, "--max-pass-tokens"},
      {&PlanInput::attention_micro_batch, "--attention-micro-batch"},
      {&PlanInput::expert_micro_batch, "--expert-micro-batch"}};
  for (const auto& [option, name] : options) {
    for (const int64_t wrong : {int64_t{0}, int64_t{-1}, std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()}) {
      PlanInput in = in_;
      in.*option = wrong;
      EXPECT_ERROR(make_plan(in), ErrorCode::invalid_argument, name);
    }
  }
}

// The widest model that config.json may describe, with the most tokens that an option may ask for: no size wraps around.
TEST_F(PlanTest, TheLargestSizesThatAreAllowedDoNotOverflow) {
  auto config = mixtral_config();
  config.update({{"hidden_size", 1 << 20},
                 {"intermediate_size", 1 << 20},
                 {"num_local_experts", 1 << 14},
                 {"num_experts_per_tok", 1 << 14},
                 {"vocab_size", 1 << 24}});
  config["head_dim"] = 4096;
  spec_ = read_spec(Config(config, "config.json"));
  in_.max_pass_tokens = 1 << 24;
  in_.host_memory = uint64_t{1} << 45;
  EXPECT_ERROR(make_plan(in_), ErrorCode::out_of_memory, "too small");
}

TEST_F(PlanTest, DescriptionHasTheSumOfItsParts) {
  const Plan plan = make_plan(in_);
  const auto lines = plan.describe();
  EXPECT_THAT(lines[0], ::testing::HasSubstr("weights 10.0 MiB"));
  EXPECT_THAT(lines[1], ::testing::HasSubstr(std::to_string(plan.sizes.pass_tokens) + " tokens"));
  EXPECT_THAT(lines[2], ::testing::HasSubstr(std::to_string(plan.kv_pages) + " pages of 32 tokens"));
}

}  // namespace
}  // namespace moegen
