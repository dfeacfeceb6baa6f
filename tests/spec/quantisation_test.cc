#include "spec/quantisation.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "spec/families.h"
#include "spec/tensor_table.h"
#include "tests/spec/configs.h"
#include "tests/support/errors.h"
#include "tests/support/quantised_model.h"

namespace moegen {
namespace {

using nlohmann::json;

// A small Qwen3-MoE whose rows are whole groups.
json model() {
  json c = qwen3_moe_config();
  c.update({{"hidden_size", 128}, {"intermediate_size", 128}, {"moe_intermediate_size", 64}, {"num_hidden_layers", 2}});
  return c;
}

ModelSpec spec_with(const json& quantization, json config = model()) {
  config["quantization_config"] = quantization;
  return read_spec({config, "config.json"});
}

json gptq(const json& changes = json::object()) {
  json out = {{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 64}, {"desc_act", false}, {"sym", true}};
  out.update(changes);
  return out;
}

json awq(const json& changes = json::object()) {
  json out = {{"quant_method", "awq"}, {"bits", 4}, {"group_size", 64}, {"zero_point", true}, {"version", "gemm"}};
  out.update(changes);
  return out;
}

json packed(const char* field = "num_bits", const json& value = 4) {
  json weights = testing::int_weights(4, 32, true);
  weights[field] = value;
  return testing::compressed_config("pack-quantized", weights);
}

const TensorSpec* find(const std::vector<TensorSpec>& table, std::string_view name) {
  const auto it = std::find_if(table.begin(), table.end(), [&](const TensorSpec& t) { return t.name == name; });
  return it == table.end() ? nullptr : &*it;
}

constexpr std::string_view kLayer = "model.layers.0.";

TEST(CompressedTensors, AllLinearLayersButTheIgnoredAreCoded) {
  const auto table = tensor_table(spec_with(packed()));
  size_t coded = 0;
  for (const TensorSpec& t : table) {
    const bool linear = t.name.find("_proj") != std::string::npos;
    EXPECT_EQ(t.quantised.has_value(), linear) << t.name;
    coded += t.part == Part::values && t.quantised == DType::i4 ? 1 : 0;
  }
  EXPECT_EQ(coded, 2U * 4 + 3 + 16 * 3) << "attention, a dense layer, a layer of experts";
  const TensorSpec* codes = find(table, "model.layers.1.mlp.experts.3.down_proj.weight_packed");
  ASSERT_NE(codes, nullptr);
  EXPECT_EQ(codes->file_shape, (std::vector<int64_t>{128, 8}));
  EXPECT_EQ(codes->file_dtype, DType::i32);
  const TensorSpec* scales = find(table, "model.layers.1.mlp.experts.3.down_proj.weight_scale");
  ASSERT_NE(scales, nullptr);
  EXPECT_EQ(scales->file_shape, (std::vector<int64_t>{128, 2}));
}

TEST(CompressedTensors, IgnoresAndTargetsAreNamesAndPatterns) {
  json q = packed();
  q["ignore"] = {"lm_head", "model.layers.0.self_attn.q_proj", "re:.*self_attn\\.(k|v)_proj", "re:self_attn", "re:^(?!model)"};
  const auto ignoring = tensor_table(spec_with(q));
  EXPECT_NE(find(ignoring, "model.layers.0.self_attn.q_proj.weight"), nullptr);
  EXPECT_NE(find(ignoring, "model.layers.1.self_attn.q_proj.weight_packed"), nullptr);
  EXPECT_NE(find(ignoring, "model.layers.1.self_attn.k_proj.weight"), nullptr);
  EXPECT_NE(find(ignoring, "model.layers.1.self_attn.o_proj.weight_packed"), nullptr) << "patterns match from the begin on";
  q = packed();
  q["config_groups"]["group_0"]["targets"] = {"re:.*experts.*"};
  q["config_groups"]["group_1"] = {{"targets", {"Linear"}}, {"weights", testing::int_weights(8, 0, true)}, {"format", "int-quantized"}};
  const auto both = tensor_table(spec_with(q));
  EXPECT_EQ(find(both, "model.layers.1.mlp.experts.0.up_proj.weight_packed")->quantised, DType::i4);
  EXPECT_EQ(find(both, "model.layers.1.self_attn.q_proj.weight")->quantised, DType::u8);
  EXPECT_EQ(find(both, "model.layers.1.self_attn.q_proj.weight_scale")->file_shape, (std::vector<int64_t>{128, 1}));
  q["config_groups"]["group_0"].swap(q["config_groups"]["group_1"]);
  EXPECT_EQ(find(tensor_table(spec_with(q)), "model.layers.1.mlp.experts.0.up_proj.weight_packed")->quantised, DType::i4)
      << "a pattern before a kind";
  q["config_groups"]["group_2"] = q["config_groups"]["group_0"];
  q["config_groups"]["group_2"]["targets"] = {"model.layers.1.mlp.experts.0.up_proj"};
  EXPECT_EQ(find(tensor_table(spec_with(q)), "model.layers.1.mlp.experts.0.up_proj.weight")->quantised, DType::u8) << "a name before a pattern";
  q["ignore"] = {"re:(a"};
  EXPECT_ERROR(tensor_table(spec_with(q)), ErrorCode::unsupported, "(a");
}

TEST(CompressedTensors, WhatIsNotKnownIsRefusedByName) {
  EXPECT_ERROR(spec_with(packed("num_bits", 3)), ErrorCode::unsupported, "num_bits 3");
  EXPECT_ERROR(spec_with(packed("type", "float")), ErrorCode::unsupported, "\"pack-quantized\" of type float");
  EXPECT_ERROR(spec_with(packed("strategy", "tensor")), ErrorCode::unsupported, "strategy \"tensor\"");
  EXPECT_ERROR(spec_with(packed("actorder", "group")), ErrorCode::unsupported, "actorder \"group\"");
  EXPECT_NO_THROW(spec_with(packed("actorder", "weight")));
  EXPECT_ERROR(spec_with(packed("group_size", 16)), ErrorCode::unsupported, "group_size 16");
  EXPECT_ERROR(spec_with(packed("group_size", 0)), ErrorCode::unsupported, "group_size 0");
  EXPECT_ERROR(spec_with(packed("group_size", nullptr)), ErrorCode::corrupt, "without a group_size");
  EXPECT_ERROR(tensor_table(spec_with(packed("group_size", 96))), ErrorCode::unsupported,
               "model.layers.0.self_attn.q_proj.weight [128,128]: quantization_config has it in groups of 96");
  EXPECT_ERROR(spec_with(testing::compressed_config("marlin-24", testing::int_weights(4, 32, true))), ErrorCode::unsupported, "marlin-24");
  EXPECT_ERROR(spec_with(testing::compressed_config("int-quantized", testing::int_weights(4, 32, true))), ErrorCode::unsupported, "num_bits 4");
  const json block = {{"num_bits", 8}, {"type", "float"}, {"strategy", "block"}, {"block_structure", {64, 64}}};
  EXPECT_ERROR(spec_with(testing::compressed_config("float-quantized", block)), ErrorCode::unsupported, "block_structure [64, 64]");
  json q = packed();
  q["sparsity_config"] = {{"format", "sparse-24-bitmask"}};
  EXPECT_ERROR(spec_with(q), ErrorCode::unsupported, "sparsity_config");
  q = packed();
  q["config_groups"]["group_0"].erase("weights");
  EXPECT_ERROR(spec_with(q), ErrorCode::unsupported, "without weights");
  q["config_groups"] = json::object();
  EXPECT_ERROR(spec_with(q), ErrorCode::unsupported, "no config_groups");
  EXPECT_ERROR(spec_with(packed(), gpt_oss_config()), ErrorCode::unsupported, "compressed-tensors");
}

TEST(CompressedTensors, IsReadAsItsLibraryReadsIt) {
  EXPECT_EQ(spec_with(packed("actorder", false)).quantisation.schemes.size(), 1U);
  EXPECT_ERROR(spec_with(packed("actorder", true)), ErrorCode::unsupported, "actorder \"group\"");
  EXPECT_EQ(spec_with(packed("strategy", nullptr)).quantisation.schemes[0].group, 32) << "follows from group_size";
  json blocks =
      testing::compressed_config("float-quantized", {{"type", "float"}, {"num_bits", 8}, {"strategy", "block"}, {"block_structure", "128x128"}});
  EXPECT_TRUE(spec_with(blocks).quantisation.is(WeightFormat::f8_blocks));
  blocks["config_groups"]["group_0"]["weights"]["block_structure"] = "64x64";
  EXPECT_ERROR(spec_with(blocks), ErrorCode::unsupported, "block_structure 64x64");
}

TEST(Schemes, ExpertsInOneTensorMayBePlainBesideCodedLayers) {
  json config = common_config("llama4_text", "Llama4ForCausalLM");
  config.update({{"hidden_size", 128}, {"intermediate_size", 64}, {"intermediate_size_mlp", 128}, {"num_local_experts", 4}, {"head_dim", 32}});
  config.update({{"num_experts_per_tok", 1}, {"interleave_moe_layer_step", 1}});
  const auto has = [](const std::string& name) -> std::optional<DType> {
    return name.find("experts.") != std::string::npos && name.find("experts.0.") == std::string::npos ? std::optional(DType::bf16) : std::nullopt;
  };
  const auto table = tensor_table(spec_with(gptq(), config), false, has);
  EXPECT_NE(find(table, "model.layers.0.feed_forward.experts.down_proj"), nullptr);
  EXPECT_EQ(find(table, "model.layers.0.feed_forward.experts.down_proj")->quantised, std::nullopt);
  EXPECT_NE(find(table, "model.layers.0.self_attn.q_proj.qweight"), nullptr);
}

TEST(Gptq, WhatItSaysIsKnownOrRefused) {
  const ModelSpec s = spec_with(gptq());
  EXPECT_TRUE(s.quantisation.schemes[0].less_one);
  EXPECT_FALSE(spec_with(gptq({{"checkpoint_format", "gptq_v2"}})).quantisation.schemes[0].less_one);
  const auto table = tensor_table(s);
  const std::string q = std::string(kLayer) + "self_attn.q_proj.";
  EXPECT_EQ(find(table, q + "qweight")->file_shape, (std::vector<int64_t>{16, 128}));
  EXPECT_EQ(find(table, q + "scales")->file_shape, (std::vector<int64_t>{2, 128}));
  EXPECT_EQ(find(table, q + "qzeros")->file_shape, (std::vector<int64_t>{2, 16}));
  EXPECT_EQ(find(tensor_table(spec_with(gptq({{"group_size", -1}, {"bits", 8}}))), q + "qzeros")->file_shape, (std::vector<int64_t>{1, 32}));
  EXPECT_EQ(find(table, "lm_head.weight")->quantised, std::nullopt);
  EXPECT_NE(find(tensor_table(spec_with(gptq({{"dynamic", {{"-:.*self_attn.*", json::object()}}}}))), q + "weight"), nullptr);
  EXPECT_ERROR(spec_with(gptq({{"dynamic", {{"+:.*self_attn.*", {{"bits", 8}}}}}})), ErrorCode::unsupported, "dynamic \"+:.*self_attn.*\"");
  const json named = {{"lm_head", json::object()}, {"model.embed_tokens", json::object()}, {"-:.*self_attn.*", json::object()}};  // as Qwen3.5 has it
  EXPECT_EQ(find(tensor_table(spec_with(gptq({{"dynamic", named}}))), q + "qweight"), nullptr);
  EXPECT_ERROR(spec_with(gptq({{"bits", 3}})), ErrorCode::unsupported, "bits 3");
  EXPECT_ERROR(spec_with(gptq({{"group_size", 24}})), ErrorCode::unsupported, "group_size 24");
  EXPECT_ERROR(spec_with(gptq({{"checkpoint_format", "marlin"}})), ErrorCode::unsupported, "checkpoint_format \"marlin\"");
  EXPECT_ERROR(spec_with(gptq({{"is_marlin_format", true}})), ErrorCode::unsupported, "is_marlin_format");
  json odd = model();
  odd.update({{"num_attention_heads", 64}, {"num_key_value_heads", 1}, {"head_dim", 2}});  // k: 2 rows
  EXPECT_NE(find(tensor_table(spec_with(gptq(), odd)), std::string(kLayer) + "self_attn.k_proj.weight"), nullptr)
      << "where only config.json is known";
  const FindTensor all_coded = [](const std::string& name) { return name.ends_with(".qweight") ? std::optional(DType::i32) : std::nullopt; };
  EXPECT_ERROR(tensor_table(spec_with(gptq(), odd), false, all_coded), ErrorCode::unsupported, "k_proj.weight [2,128]");
}

TEST(Awq, WhatItSaysIsKnownOrRefused) {
  const auto table = tensor_table(spec_with(awq({{"modules_to_not_convert", {"k_proj"}}})));
  EXPECT_EQ(find(table, std::string(kLayer) + "self_attn.q_proj.qweight")->file_shape, (std::vector<int64_t>{128, 16}));
  EXPECT_NE(find(table, std::string(kLayer) + "self_attn.k_proj.weight"), nullptr);
  const auto gates = tensor_table(spec_with(awq({{"modules_to_not_convert", {"proj", "gate", "layers.1"}}})));
  EXPECT_NE(find(gates, std::string(kLayer) + "self_attn.k_proj.qweight"), nullptr) << "a part between dots";
  EXPECT_NE(find(gates, "model.layers.1.self_attn.k_proj.weight"), nullptr);
  EXPECT_ERROR(spec_with(awq({{"version", "gemv"}})), ErrorCode::unsupported, "version \"gemv\"");
  EXPECT_ERROR(spec_with(awq({{"zero_point", false}})), ErrorCode::unsupported, "zero_point");
  EXPECT_ERROR(spec_with(awq({{"bits", 8}})), ErrorCode::unsupported, "bits 8");
}

TEST(Schemes, FilesDecideWhichLayersAreCoded) {
  const ModelSpec s = spec_with(packed());
  const auto has = [](const std::string& name) -> std::optional<DType> {
    if (name == "model.layers.0.self_attn.q_proj.weight") return DType::bf16;
    if (name == "lm_head.weight_packed" || name == "model.layers.1.mlp.gate.weight_packed") return DType::i32;
    return std::nullopt;
  };
  const auto table = tensor_table(s, false, has);
  EXPECT_EQ(find(table, "model.layers.0.self_attn.q_proj.weight")->quantised, std::nullopt) << "not ignored, but plain";
  EXPECT_EQ(find(table, "lm_head.weight_packed")->quantised, DType::i4) << "ignored, but coded";
  EXPECT_EQ(find(table, "model.layers.1.mlp.gate.weight_packed")->quantised, DType::i4);
  EXPECT_NE(find(table, "model.layers.0.self_attn.k_proj.weight_packed"), nullptr) << "what is nowhere is missing under the name that is expected";
}

TEST(Schemes, FusedExpertsAreTensorsOfTheirOwn) {
  json config = common_config("llama4_text", "Llama4ForCausalLM");
  config.update({{"hidden_size", 128}, {"intermediate_size", 64}, {"intermediate_size_mlp", 128}, {"num_local_experts", 4}, {"head_dim", 32}});
  config.update({{"num_experts_per_tok", 1}, {"interleave_moe_layer_step", 1}});
  const auto table = tensor_table(spec_with(gptq(), config));
  EXPECT_NE(find(table, std::string(kLayer) + "feed_forward.experts.3.gate_proj.qweight"), nullptr);
  EXPECT_NE(find(table, std::string(kLayer) + "feed_forward.shared_expert.down_proj.qweight"), nullptr);
}

}  // namespace
}  // namespace moegen
