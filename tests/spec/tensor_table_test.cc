#include "spec/tensor_table.h"

#include <gtest/gtest.h>

#include <map>

#include "spec/families.h"
#include "tests/spec/configs.h"

namespace moegen {
namespace {

using Shape = std::vector<int64_t>;

ModelSpec spec_of(const nlohmann::json& config) { return read_spec(Config(config, "config.json")); }

std::map<std::string, Shape> shapes_of(const nlohmann::json& config) {
  std::map<std::string, Shape> out;
  for (const TensorSpec& t : tensor_table(spec_of(config))) {
    EXPECT_TRUE(out.emplace(t.name, t.shape).second) << t.name << " stands twice in the table";
    EXPECT_EQ(t.name.find('{'), std::string::npos) << t.name;
  }
  return out;
}

TEST(TensorTable, MixtralAsItsRepositoryNamesThem) {
  const auto t = shapes_of(mixtral_config());
  EXPECT_EQ(t.size(), 3U + 3 * (2 + 4 + 1 + 3 * 8));
  EXPECT_EQ(t.at("model.layers.2.block_sparse_moe.gate.weight"), (Shape{8, 64}));
  EXPECT_EQ(t.at("model.layers.0.block_sparse_moe.experts.7.w1.weight"), (Shape{80, 64}));
  EXPECT_EQ(t.at("model.layers.0.block_sparse_moe.experts.7.w2.weight"), (Shape{64, 80}));
  EXPECT_EQ(t.at("model.layers.1.self_attn.k_proj.weight"), (Shape{32, 64}));
  EXPECT_EQ(t.at("lm_head.weight"), (Shape{320, 64}));
}

TEST(TensorTable, Mixtralw1IsTheGateAndw3TheUpProjection) {
  for (const TensorSpec& t : tensor_table(spec_of(mixtral_config()))) {
    const Role expected = t.name.ends_with(".w1.weight") ? Role::gate : t.name.ends_with(".w2.weight") ? Role::down : Role::up;
    EXPECT_TRUE(t.expert < 0 || t.role == expected) << t.name;
  }
}

TEST(TensorTable, Qwen2MoeHasBiasesASharedExpertAndADenseLayer) {
  const auto t = shapes_of(qwen2_moe_config());
  EXPECT_EQ(t.at("model.layers.0.self_attn.q_proj.bias"), (Shape{64}));
  EXPECT_EQ(t.at("model.layers.0.self_attn.v_proj.bias"), (Shape{32}));
  EXPECT_FALSE(t.contains("model.layers.0.self_attn.o_proj.bias"));
  EXPECT_EQ(t.at("model.layers.0.mlp.shared_expert.down_proj.weight"), (Shape{64, 144}));
  EXPECT_EQ(t.at("model.layers.0.mlp.shared_expert_gate.weight"), (Shape{1, 64}));
  EXPECT_EQ(t.at("model.layers.1.mlp.down_proj.weight"), (Shape{64, 208}));
  EXPECT_FALSE(t.contains("model.layers.1.mlp.gate.weight"));
  EXPECT_FALSE(t.contains("model.layers.1.mlp.shared_expert_gate.weight"));
}

TEST(TensorTable, NormsAreAsWideAsTheyReach) {
  EXPECT_EQ(shapes_of(qwen3_moe_config()).at("model.layers.3.self_attn.k_norm.weight"), (Shape{32})) << "a head";
  EXPECT_EQ(shapes_of(olmoe_config()).at("model.layers.0.self_attn.k_norm.weight"), (Shape{64})) << "the whole projection";
}

TEST(TensorTable, ATiedHeadIsNotATensorAndMayBeSkipped) {
  EXPECT_FALSE(shapes_of(qwen3_config()).contains("lm_head.weight"));
  EXPECT_NE(reason_to_skip(spec_of(qwen3_config()), "lm_head.weight"), "");
  EXPECT_EQ(reason_to_skip(spec_of(mixtral_config()), "lm_head.weight"), "");
  EXPECT_NE(reason_to_skip(spec_of(mixtral_config()), "model.layers.0.self_attn.rotary_emb.inv_freq"), "");
  ModelSpec predicting = spec_of(mixtral_config());
  EXPECT_EQ(reason_to_skip(predicting, "model.layers.3.eh_proj.weight"), "");
  predicting.prediction_layers = 1;
  EXPECT_NE(reason_to_skip(predicting, "model.layers.3.eh_proj.weight"), "");
  EXPECT_EQ(reason_to_skip(predicting, "model.layers.2.eh_proj.weight"), "");
  EXPECT_EQ(reason_to_skip(predicting, "model.layers.30.eh_proj.weight"), "");
  EXPECT_EQ(reason_to_skip(spec_of(mixtral_config()), "model.layers.0.self_attn.q_proj.bias"), "");
}

TEST(TensorTable, AModelThatWasWrittenWithoutItsHeadHasOtherNames) {
  const auto find = [](const std::string& name) { return name == "embed_tokens.weight" ? std::optional(DType::bf16) : std::nullopt; };
  const std::vector<TensorSpec> table = tensor_table(spec_of(mixtral_config()), false, find);
  EXPECT_EQ(table[0].name, "embed_tokens.weight");
  EXPECT_TRUE(table[1].name.starts_with("layers.0."));
  EXPECT_EQ(table.back().name, "lm_head.weight");
}

TEST(TensorTable, WhatPredictsFurtherTokensIsSkippedInEveryFamily) {
  for (const char* name : {"mtp.fc.weight", "mtp.layers.0.mlp.experts.0.up_proj.weight", "model.mtp_block.0.input_layernorm.weight",
                           "model.mtp_emb_norm.0.weight", "model.mtp_linear_proj.0.weight"})  // of Qwen3-Next, Qwen3.5 text and Ernie-4.5
    EXPECT_EQ(reason_to_skip(spec_of(mixtral_config()), name), "predicts further tokens") << name;
}

}  // namespace
}  // namespace moegen
