#include "spec/families.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>

#include "base/file.h"
#include "spec/tensor_table.h"
#include "tests/spec/configs.h"
#include "tests/support/errors.h"
#include "tests/support/quantised_model.h"

namespace moegen {
namespace {

using nlohmann::json;
using QkNorm = AttentionSpec::QkNorm;

ModelSpec spec_of(const json& config) { return read_spec(Config(config, "config.json")); }

json with(json config, const json& patch) {
  config.merge_patch(patch);  // a null removes the field
  return config;
}

json with_null(json config, const char* field) {
  config[field] = nullptr;
  return config;
}

TEST(Llama, Transformers4) {
  const ModelSpec s = spec_of(llama_config());
  EXPECT_EQ(s.family, "llama");
  EXPECT_EQ(s.hidden, 64);
  EXPECT_EQ(s.vocab, 320);
  EXPECT_EQ(s.layers.size(), 3U);
  EXPECT_FLOAT_EQ(s.norm_eps, 1e-5F);
  EXPECT_EQ(s.max_positions, 4096);
  EXPECT_EQ(s.eos_ids, (std::vector<int32_t>{2}));
  EXPECT_EQ(s.dtype, DType::bf16);
  for (const LayerSpec& layer : s.layers) {
    const AttentionSpec& a = layer.attention;
    EXPECT_EQ(a.num_heads, 4);
    EXPECT_EQ(a.num_kv_heads, 2);
    EXPECT_EQ(a.head_dim, 16);
    EXPECT_FLOAT_EQ(a.scale, 0.25F);
    EXPECT_EQ(a.window, 0);
    EXPECT_FALSE(a.qkv_bias || a.o_bias);
    EXPECT_EQ(a.qk_norm, QkNorm::none);
    EXPECT_TRUE(layer.mlp.dense());
    EXPECT_EQ(layer.mlp.width, 96);
    EXPECT_EQ(a.rope.scaling, RopeSpec::Scaling::llama3);
    EXPECT_EQ(a.rope.theta, 500000);
    EXPECT_EQ(a.rope.factor, 32);
    EXPECT_EQ(a.rope.original_len, 512);
    EXPECT_EQ(a.rope.high_freq_factor, 4);
  }
}

// The same model as save_pretrained of transformers 5 writes it.
TEST(Llama, Transformers5IsTheSameModel) {
  const json v4 = llama_config();
  const ModelSpec a = spec_of(v4);
  const ModelSpec b = spec_of(as_transformers5(v4));
  EXPECT_EQ(a.layers, b.layers);
  EXPECT_EQ(a.dtype, b.dtype);
  EXPECT_EQ(a.max_positions, b.max_positions);
}

TEST(EveryFamily, ReadsAlikeInBothSpellings) {
  for (json v4 : {llama_config(), mistral_config(), mixtral_config(), qwen3_config(), qwen2_moe_config(), qwen3_moe_config(), olmoe_config()}) {
    for (const char* dtype : {"float32", "float16", "bfloat16"}) {
      v4["torch_dtype"] = dtype;
      const ModelSpec a = spec_of(v4);
      const ModelSpec b = spec_of(as_transformers5(v4));
      EXPECT_EQ(a.layers, b.layers) << v4["model_type"];
      EXPECT_EQ(a.dtype, b.dtype);
      EXPECT_EQ(a.family, v4["model_type"].get<std::string>());
      EXPECT_EQ(name_of(a.dtype), std::string_view(dtype) == "float32" ? "F32" : std::string_view(dtype) == "float16" ? "F16" : "BF16");
    }
  }
}

TEST(EveryFamily, IsFoundByModelTypeWhereArchitecturesAreMissing) {
  for (json c : {llama_config(), mistral_config(), mixtral_config(), qwen3_config(), qwen2_moe_config(), qwen3_moe_config(), olmoe_config()}) {
    c["architectures"] = nullptr;
    EXPECT_EQ(spec_of(c).family, c["model_type"].get<std::string>());
  }
}

TEST(EveryFamily, AnArchitectureThatIsNotThereIsRefusedByName) {
  EXPECT_ERROR(spec_of(with(llama_config(), {{"architectures", {"MambaForCausalLM"}}})), ErrorCode::unsupported, "MambaForCausalLM");
  EXPECT_ERROR(spec_of(with(llama_config(), {{"architectures", {"LlamaForSequenceClassification"}}})), ErrorCode::unsupported,
               "(it has LlamaForCausalLM");
  EXPECT_ERROR(spec_of(json::object()), ErrorCode::unsupported, "architecture \"\"");
  EXPECT_ERROR(spec_of(with(llama_config(), {{"architectures", {""}}})), ErrorCode::unsupported, "architecture \"\"");
}

TEST(Llama, BiasesOnAllFourProjections) {
  const ModelSpec s = spec_of(with(llama_config(), {{"attention_bias", true}}));
  EXPECT_TRUE(s.layers[2].attention.qkv_bias);
  EXPECT_TRUE(s.layers[2].attention.o_bias);
}

MlpSpec routed(int num_experts, int top_k, int width, bool renormalize) {
  MlpSpec m;
  m.num_experts = num_experts;
  m.top_k = top_k;
  m.width = width;
  m.router.renormalize = renormalize;
  return m;
}

MlpSpec with_gated_expert(MlpSpec m, int width) {
  m.shared_width = width;
  m.shared_gate = true;
  return m;
}

TEST(Mixtral, EveryLayerHasRenormalisedExperts) {
  const ModelSpec s = spec_of(mixtral_config());
  for (const LayerSpec& layer : s.layers) {
    EXPECT_EQ(layer.mlp, routed(8, 2, 80, true));
    EXPECT_EQ(layer.attention.window, 0);
  }
  EXPECT_EQ(s.layers[0].attention.rope.theta, 1e6);
}

TEST(Mixtral, DefaultsAreThoseOfItsConfigClass) {
  json c = mixtral_config();
  for (const char* field : {"rope_theta", "rms_norm_eps", "sliding_window"}) c.erase(field);
  const ModelSpec s = spec_of(c);
  EXPECT_EQ(s.layers[0].attention.rope.theta, 1e6);
  EXPECT_FLOAT_EQ(s.norm_eps, 1e-5F);
  EXPECT_EQ(s.layers[0].attention.window, 0);
}

TEST(Qwen2Moe, SharedExpertBiasAndDenseLayers) {
  const ModelSpec s = spec_of(qwen2_moe_config());
  EXPECT_EQ(s.layers[0].mlp, with_gated_expert(routed(10, 4, 48, false), 144));
  EXPECT_EQ(s.layers[1].mlp, routed(0, 0, 208, false)) << "mlp_only_layers";
  EXPECT_EQ(s.layers[2].mlp, s.layers[0].mlp);
  EXPECT_TRUE(s.layers[0].attention.qkv_bias) << "the default of qkv_bias";
  EXPECT_FALSE(s.layers[0].attention.o_bias);
}

TEST(Qwen3Moe, SparseStepCountsFromOne) {
  const ModelSpec s = spec_of(qwen3_moe_config());
  for (const int dense : {0, 2}) EXPECT_TRUE(s.layers[static_cast<size_t>(dense)].mlp.dense()) << dense;
  for (const int sparse : {1, 3}) EXPECT_EQ(s.layers[static_cast<size_t>(sparse)].mlp, routed(16, 4, 32, true)) << sparse;
  EXPECT_EQ(s.layers[0].attention.qk_norm, QkNorm::per_head);
  EXPECT_EQ(s.layers[0].attention.q_width(), 128) << "head_dim is not hidden / heads";
}

TEST(Qwen3Moe, MlpOnlyLayersMayBeNullAndExpertsHaveTwoNames) {
  json c = with_null(qwen3_moe_config(), "mlp_only_layers");
  c["num_local_experts"] = c["num_experts"];
  c.erase("num_experts");
  EXPECT_EQ(spec_of(c).layers, spec_of(qwen3_moe_config()).layers);
}

TEST(Olmoe, WholeNormAndClipping) {
  const ModelSpec s = spec_of(olmoe_config());
  EXPECT_EQ(s.layers[0].mlp, routed(16, 4, 32, false));
  EXPECT_EQ(s.layers[0].attention.qk_norm, QkNorm::whole);
  EXPECT_FLOAT_EQ(s.layers[0].attention.clip_qkv, 1.5F);
  EXPECT_EQ(spec_of(with_null(olmoe_config(), "clip_qkv")).layers[0].attention.clip_qkv, 0);
}

TEST(Qwen3, TiedDenseWithNormPerHead) {
  const ModelSpec s = spec_of(qwen3_config());
  EXPECT_TRUE(s.tied_embeddings);
  EXPECT_EQ(s.layers[0].attention.qk_norm, QkNorm::per_head);
  EXPECT_TRUE(s.layers[0].mlp.dense());
}

TEST(CommonFields, NullsTakeTheirDefaults) {
  json c = llama_config();
  for (const char* field :
       {"head_dim", "num_key_value_heads", "tie_word_embeddings", "eos_token_id", "rope_scaling", "attention_bias", "torch_dtype"})
    c[field] = nullptr;
  const ModelSpec s = spec_of(c);
  EXPECT_EQ(s.layers[0].attention.head_dim, 16) << "hidden / heads";
  EXPECT_EQ(s.layers[0].attention.num_kv_heads, 4) << "as many as heads";
  EXPECT_FALSE(s.tied_embeddings);
  EXPECT_TRUE(s.eos_ids.empty());
  EXPECT_EQ(s.layers[0].attention.rope.scaling, RopeSpec::Scaling::none);
  EXPECT_EQ(s.dtype, DType::bf16);
}

TEST(CommonFields, EosMayBeAListAndNumbersFloats) {
  EXPECT_EQ(spec_of(with(llama_config(), {{"eos_token_id", {3, 7.0}}})).eos_ids, (std::vector<int32_t>{3, 7}));
  EXPECT_EQ(spec_of(with(llama_config(), {{"hidden_size", 64.0}, {"max_position_embeddings", 4.096e3}})).max_positions, 4096);
}

TEST(CommonFields, FeaturesThatAreNotThereAreRefusedByName) {
  const json c = llama_config();
  EXPECT_ERROR(spec_of(with(c, {{"hidden_act", "gelu"}})), ErrorCode::unsupported, "hidden_act \"gelu\"");
  EXPECT_ERROR(spec_of(with(c, {{"mlp_bias", true}})), ErrorCode::unsupported, "mlp_bias");
  EXPECT_ERROR(spec_of(with(c, {{"quantization_config", {{"quant_method", "bitsandbytes"}}}})), ErrorCode::unsupported, "bitsandbytes");
  EXPECT_NO_THROW(spec_of(with(c, {{"hidden_act", "swish"}})));
}

TEST(CommonFields, OfQuantisationsFp8InBlocksIsKnown) {
  const json c = llama_config();
  const json fp8 = {{"quant_method", "fp8"}, {"fmt", "e4m3"}, {"activation_scheme", "dynamic"}, {"weight_block_size", {128, 128}}};
  const auto spec_with = [&](const json& changes) { return spec_of(with(c, {{"quantization_config", with(fp8, changes)}})); };
  EXPECT_TRUE(spec_of(c).quantisation.none());
  EXPECT_TRUE(spec_with(json::object()).quantisation.is(WeightFormat::f8_blocks));
  EXPECT_ERROR(spec_with({{"fmt", "e5m2"}}), ErrorCode::unsupported, "fmt \"e5m2\"");
  EXPECT_ERROR(spec_with({{"activation_scheme", "x"}}), ErrorCode::unsupported, "activation_scheme \"x\"");
  EXPECT_ERROR(spec_with({{"weight_block_size", {64, 128}}}), ErrorCode::unsupported, "weight_block_size [64, 128]");
  const json whole = {{"quant_method", "fp8"}, {"activation_scheme", "static"}, {"ignored_layers", {"model.layers.0.self_attn.q_proj"}}};
  const auto of_matrices = tensor_table(spec_of(with(c, {{"quantization_config", whole}})));
  const auto of = [&](std::string_view name) {
    return std::find_if(of_matrices.begin(), of_matrices.end(), [&](const auto& t) { return t.name == name; });
  };
  EXPECT_EQ(of("model.layers.0.self_attn.k_proj.weight")->block_rows, 1) << "a scale for each row, or one for all";
  EXPECT_FALSE(of("model.layers.0.self_attn.q_proj.weight")->quantised);
  for (const TensorSpec& t : tensor_table(spec_with({{"modules_to_not_convert", {"self_attn", "model.layers.1", "gate", "lm_head"}}})))
    EXPECT_EQ(t.quantised.has_value(), t.name.starts_with("model.layers.0.mlp.") || t.name.starts_with("model.layers.2.mlp.")) << t.name;
  EXPECT_TRUE(spec_of(with(c, {{"compression_config", whole}})).quantisation.is(WeightFormat::f8_rows));
  EXPECT_ERROR(spec_with({{"weight_block_size", "128"}}), ErrorCode::corrupt, "weight_block_size");
  for (const TensorSpec& t : tensor_table(spec_with(json::object()))) {
    const bool is_linear = t.name.find("_proj.weight") != std::string::npos;
    EXPECT_EQ(t.quantised.has_value(), is_linear) << t.name;
  }
}

TEST(HostileNumbers, AreRefusedWithTheirField) {
  const std::vector<std::pair<const char*, json>> cases = {{"hidden_size", 0},
                                                           {"hidden_size", -64},
                                                           {"hidden_size", 1e18},
                                                           {"hidden_size", "64"},
                                                           {"vocab_size", 4294967296},
                                                           {"vocab_size", 0},
                                                           {"num_hidden_layers", 1e9},
                                                           {"num_hidden_layers", 0},
                                                           {"num_attention_heads", 0},
                                                           {"num_attention_heads", -1},
                                                           {"num_key_value_heads", 0},
                                                           {"num_key_value_heads", 3},
                                                           {"head_dim", 1},
                                                           {"head_dim", 1e6},
                                                           {"intermediate_size", -1},
                                                           {"rms_norm_eps", -1e-5},
                                                           {"rms_norm_eps", "x"},
                                                           {"max_position_embeddings", 1e300},
                                                           {"max_position_embeddings", 0},
                                                           {"eos_token_id", -5},
                                                           {"eos_token_id", 1e10},
                                                           {"rope_theta", 0},
                                                           {"rope_theta", -1},
                                                           {"tie_word_embeddings", 1},
                                                           {"architectures", "LlamaForCausalLM"},
                                                           {"rope_scaling", "linear"},
                                                           {"partial_rotary_factor", 1.5}};
  for (const auto& [field, value] : cases)
    EXPECT_ERROR(spec_of(with(with(llama_config(), {{"rope_scaling", nullptr}}), {{field, value}})), ErrorCode::corrupt, field);
}

TEST(HostileNumbers, ProductsAreBoundedToo) {
  EXPECT_ERROR(spec_of(with(llama_config(), {{"num_attention_heads", 1 << 20}, {"num_key_value_heads", 1}, {"head_dim", 4096}})), ErrorCode::corrupt,
               "too wide");
  EXPECT_ERROR(spec_of(with(llama_config(), {{"head_dim", 15}})), ErrorCode::unsupported, "head_dim 15, which is odd");
  // Each is possible, but together they are 67 million experts, and a tensor table of 200 million rows.
  const json many = {{"num_hidden_layers", 4096}, {"num_local_experts", 16384}};
  EXPECT_ERROR(spec_of(with(mixtral_config(), many)), ErrorCode::corrupt, "67108864 experts in all layers together");
}

TEST(HostileNumbers, ExpertsAreBoundedByOneAnother) {
  EXPECT_ERROR(spec_of(with(mixtral_config(), {{"num_experts_per_tok", 9}})), ErrorCode::corrupt, "num_experts_per_tok");
  EXPECT_ERROR(spec_of(with(mixtral_config(), {{"num_local_experts", 0}})), ErrorCode::corrupt, "num_local_experts");
  EXPECT_ERROR(spec_of(with(qwen3_moe_config(), {{"decoder_sparse_step", 0}})), ErrorCode::corrupt, "decoder_sparse_step");
  EXPECT_ERROR(spec_of(with(qwen3_moe_config(), {{"moe_intermediate_size", nullptr}})), ErrorCode::corrupt, "moe_intermediate_size is missing");
}

// config.json of a golden checkpoint.
json golden_config(const std::string& model) {
  return json::parse(read_text_file(std::filesystem::path(MOEGEN_SOURCE_DIR) / "tests/data/models" / model / "config.json", 1 << 20));
}

TEST(DeepseekV3, LatentAttentionGroupsAndDenseLayers) {
  const ModelSpec s = spec_of(golden_config("deepseek_v3"));
  const AttentionSpec& a = s.layers[0].attention;
  EXPECT_EQ(a.latent, (LatentSpec{64, 64, 32, 16, 32}));
  EXPECT_EQ(a.num_kv_heads, 1);
  EXPECT_EQ(a.head_dim, 80) << "latent and rotated key";
  EXPECT_EQ(a.cached_width(), 80) << "nothing more is kept of a token";
  EXPECT_EQ(a.o_width(), 128);
  const double mscale = 0.1 * std::log(40.0) + 1;
  EXPECT_NEAR(a.scale, mscale * mscale / std::sqrt(48.0), 1e-6);
  EXPECT_TRUE(a.rope.interleaved);
  EXPECT_EQ(a.rope.amplitude, 1) << "both mscales are equal";
  EXPECT_TRUE(s.layers[0].mlp.dense());
  const MlpSpec& mlp = s.layers[1].mlp;
  EXPECT_EQ(mlp.router, (RouterSpec{RouterSpec::Scores::sigmoid, true, 4, 2, 2, true, 2.5F}));
  EXPECT_EQ(mlp.shared_width, 32);
  EXPECT_FALSE(mlp.shared_gate);
}

TEST(DeepseekV2, ChoosesGroupsByTheirBestOnlyWhereItSaysSo) {
  const RouterSpec grouped = spec_of(golden_config("deepseek_v2")).layers[1].mlp.router;
  EXPECT_EQ(grouped, (RouterSpec{RouterSpec::Scores::softmax, false, 4, 2, 1, false, 4}));
  const ModelSpec lite = spec_of(golden_config("deepseek_v2_lite"));
  EXPECT_EQ(lite.layers[1].mlp.router, (RouterSpec{}));
  EXPECT_EQ(lite.layers[1].attention.latent.q_rank, 0);
  EXPECT_NEAR(spec_of(golden_config("deepseek_v2")).layers[0].attention.rope.amplitude, (0.0707 * std::log(32.0) + 1) / (0.1 * std::log(32.0) + 1),
              1e-12);
}

TEST(DeepseekV3, SaysWhatItDoesNotHave) {
  const json c = golden_config("deepseek_v3");
  EXPECT_ERROR(spec_of(with(c, {{"n_group", 3}})), ErrorCode::corrupt, "no multiple of n_group 3");
  EXPECT_ERROR(spec_of(with(c, {{"topk_group", 1}, {"num_experts_per_tok", 5}})), ErrorCode::corrupt, "too few to choose 5");
  EXPECT_ERROR(spec_of(with(c, {{"kv_lora_rank", 63}})), ErrorCode::corrupt, "kv_lora_rank 63 is not even");
  EXPECT_ERROR(spec_of(with(c, {{"scoring_func", "softmax"}})), ErrorCode::unsupported, "scoring_func");
  EXPECT_ERROR(spec_of(with(c, {{"moe_layer_freq", 2}})), ErrorCode::unsupported, "moe_layer_freq");
  EXPECT_ERROR(spec_of(with(golden_config("deepseek_v2"), {{"norm_topk_prob", true}})), ErrorCode::unsupported, "norm_topk_prob");
  EXPECT_ERROR(spec_of(with(golden_config("deepseek_v2"), {{"scoring_func", "sigmoid"}})), ErrorCode::unsupported, "scoring_func \"sigmoid\"");
  EXPECT_ERROR(spec_of(with(golden_config("deepseek_v2"), {{"topk_method", "hash"}})), ErrorCode::unsupported, "topk_method \"hash\"");
}

// Kimi-K2 is DeepSeek-V3 with other numbers: its own names in config.json, and K2.5 has the text model beside what reads images.
TEST(KimiK2, IsDeepseekV3UnderItsOwnNames) {
  json c = golden_config("moonlight");
  c.update({{"num_attention_heads", 64}, {"n_routed_experts", 384}, {"num_experts_per_tok", 8}, {"routed_scaling_factor", 2.827}});
  const ModelSpec v3 = spec_of(c);
  EXPECT_EQ(v3.layers[1].mlp.router, (RouterSpec{RouterSpec::Scores::sigmoid, true, 1, 1, 2, true, 2.827F}));
  c["model_type"] = "kimi_k2";
  EXPECT_EQ(spec_of(c).layers, v3.layers) << "as moonshotai/Kimi-K2-Instruct has it";
  c.erase("architectures");
  EXPECT_EQ(spec_of(c).layers, v3.layers);
  c["architectures"] = {"KimiK2ForCausalLM"};
  EXPECT_EQ(spec_of(c).layers, v3.layers);
  const json nested = {{"architectures", {"KimiK25ForConditionalGeneration"}}, {"model_type", "kimi_k25"}, {"text_config", c}};
  const ModelSpec k25 = spec_of(nested);
  EXPECT_EQ(k25.layers, v3.layers);
  EXPECT_EQ(tensor_table(k25)[0].name, "language_model.model.embed_tokens.weight");
  EXPECT_EQ(tensor_table(k25).back().name, "language_model.lm_head.weight");
  EXPECT_EQ(reason_to_skip(k25, "mm_projector.proj.0.weight"), "for images, which this version does not read");
  EXPECT_EQ(reason_to_skip(k25, "vision_tower.patch_embed.proj.weight"), "for images, which this version does not read");
}

// In which of the formats that are not plain a golden checkpoint is; empty: none.
std::string coded_format(const json& config) {
  if (!config.contains("quantization_config")) return "";
  const json& q = config["quantization_config"];
  const std::string method = q["quant_method"];
  if (method == "fp8") return "FP8";
  if (method == "mxfp4") return "MXFP4";
  if (method != "compressed-tensors") return fmt::format("INT{}", q["bits"].get<int>());
  if (q["format"] == "float-quantized") return "FP8";
  return fmt::format("INT{}", q["config_groups"].begin()->at("weights")["num_bits"].get<int>());
}

TEST(Families, FormatsOfGoldenOutputsAreThoseOfTheGoldenCheckpoints) {
  std::map<std::string, std::set<std::string>> there;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(MOEGEN_SOURCE_DIR) / "tests/data/models")) {
    const json config = golden_config(entry.path().filename().string());
    there[config["model_type"]].insert(coded_format(config));
  }
  for (const Family& f : families()) {
    const std::string said = tested_formats_of(f);
    EXPECT_EQ(said.substr(0, 5), "plain");
    ASSERT_TRUE(there.contains(std::string(original(f)))) << original(f);
    std::set<std::string> have{""};
    std::istringstream words(said.substr(5));
    for (std::string word; words >> word;) have.insert(word);
    EXPECT_EQ(have, there[std::string(original(f))]) << f.model_type;
  }
}

TEST(GptOss, SinksWindowsBiasesAndTheClampedActivation) {
  const json c = golden_config("gpt_oss");
  const ModelSpec s = spec_of(c);
  EXPECT_EQ(s.layers[0].attention.window, 24);
  EXPECT_EQ(s.layers[1].attention.window, 0);
  const AttentionSpec& a = s.layers[1].attention;
  EXPECT_TRUE(a.sinks && a.qkv_bias && a.o_bias);
  EXPECT_FALSE(a.rope.truncate);
  const MlpSpec& m = s.layers[0].mlp;
  EXPECT_TRUE(m.bias && m.interleaved && m.router.logit_bias && m.router.renormalize);
  EXPECT_EQ(m.clamp, 1.5F);
  EXPECT_EQ(spec_of(with(c, {{"swiglu_limit", nullptr}})).layers[0].mlp.clamp, 7);
  EXPECT_EQ(spec_of(with(c, {{"layer_types", nullptr}})).layers[2].attention.window, 24);
  EXPECT_ERROR(spec_of(with(c, {{"swiglu_limit", 0}})), ErrorCode::corrupt, "swiglu_limit");
  EXPECT_ERROR(spec_of(with(c, {{"sliding_window", -1}})), ErrorCode::corrupt, "sliding_window");
}

TEST(GptOss, Mxfp4IsForItsExpertsInWholeBlocks) {
  const json c = golden_config("gpt_oss_mxfp4");
  const ModelSpec s = spec_of(c);
  EXPECT_TRUE(s.quantisation.is(WeightFormat::mxfp4));
  for (const TensorSpec& t : tensor_table(s)) {
    const bool codes = t.name.ends_with("_blocks"), scales = t.name.ends_with("_scales");
    EXPECT_EQ(t.quantised == DType::f4, codes) << t.name;
    EXPECT_EQ(t.quantised == DType::f8_e8m0, scales) << t.name;
    EXPECT_TRUE(t.slice < 0 || t.slice == t.expert);
  }
  EXPECT_ERROR(spec_of(with(c, {{"hidden_size", 144}})), ErrorCode::corrupt, "whole blocks of 32");
  EXPECT_ERROR(spec_of(with(llama_config(), {{"quantization_config", {{"quant_method", "mxfp4"}}}})), ErrorCode::unsupported, "mxfp4");
}

TEST(Glm4Moe, TurnsHalfOfAHead) {
  const ModelSpec s = spec_of(golden_config("glm4_moe"));
  EXPECT_EQ(s.layers[0].attention.rope.dim, 12);
  EXPECT_TRUE(s.layers[0].attention.qkv_bias);
  EXPECT_FALSE(s.layers[0].attention.o_bias);
}

TEST(MinimaxM2, RotaryDimSaysHowMuchIsTurned) {
  EXPECT_EQ(spec_of(golden_config("minimax_m2")).layers[0].attention.rope.dim, 12);
  EXPECT_ERROR(spec_of(with(golden_config("minimax_m2"), {{"use_routing_bias", false}})), ErrorCode::unsupported, "use_routing_bias");
}

TEST(Ernie, ExpertsFromTheFirstToTheLastLayerNamed) {
  json c = golden_config("ernie4_5_moe");
  const ModelSpec s = spec_of(c);
  EXPECT_TRUE(s.layers[0].mlp.dense());
  EXPECT_FALSE(s.layers[2].mlp.dense());
  EXPECT_TRUE(s.layers[0].attention.rope.interleaved);
  EXPECT_TRUE(spec_of(with(c, {{"moe_layer_end_index", 1}})).layers[2].mlp.dense());
  EXPECT_TRUE(spec_of(with(c, {{"moe_layer_interval", 2}})).layers[2].mlp.dense());
}

}  // namespace
TEST(Granite, FactorsAreAppliedWhereTheyBelong) {
  const ModelSpec s = spec_of(golden_config("granitemoe"));
  EXPECT_EQ(s.embedding_scale, 12);
  EXPECT_FLOAT_EQ(s.residual_scale, 0.22F);
  EXPECT_FLOAT_EQ(s.logit_scale, 1 / 6.0F);
  EXPECT_FLOAT_EQ(s.layers[0].attention.scale, 0.3F);
}

TEST(Hunyuan, AlphaStretchesTheBaseAndListsAreByLayer) {
  const json c = golden_config("hunyuan_v1_moe");
  EXPECT_NEAR(spec_of(c).layers[0].attention.rope.theta, 1e4 * std::pow(1000, 32.0 / 30), 1e-3);
  EXPECT_EQ(spec_of(with(c, {{"moe_topk", {1, 2, 3}}})).layers[1].mlp.top_k, 2);
  EXPECT_EQ(spec_of(with(c, {{"moe_topk", 2}})).layers[2].mlp.top_k, 2);
  EXPECT_ERROR(spec_of(with(c, {{"moe_topk", {1, 2}}})), ErrorCode::corrupt, "moe_topk has 2 entries for 3 layers");
  EXPECT_ERROR(spec_of(with(c, {{"moe_topk", 7}})), ErrorCode::corrupt, "moe_topk");
  EXPECT_ERROR(spec_of(with(c, {{"moe_intermediate_size", 40}})), ErrorCode::unsupported, "moe_intermediate_size");
  EXPECT_ERROR(spec_of(with(c, {{"num_shared_expert", 2}})), ErrorCode::unsupported, "num_shared_expert");
  EXPECT_ERROR(spec_of(with(c, {{"use_cla", true}})), ErrorCode::unsupported, "use_cla");
  EXPECT_EQ(spec_of(with(c, {{"rope_scaling", {{"type", "dynamic"}, {"alpha", nullptr}}}})).layers[0].attention.rope.theta, 1e4);
}

TEST(Phimoe, FactorsOfShortContextsEndWithThem) {
  const json c = golden_config("phimoe");
  const ModelSpec s = spec_of(c);
  EXPECT_EQ(s.max_positions, 4096);
  EXPECT_TRUE(s.layer_norm && s.head_bias);
  EXPECT_EQ(s.layers[0].attention.rope.divisors.size(), 12U);
  EXPECT_DOUBLE_EQ(s.layers[0].attention.rope.amplitude, 1.24);
  json scaling = c.at("rope_scaling");
  scaling["short_factor"] = {1, 2};
  EXPECT_ERROR(spec_of(with(c, {{"rope_scaling", scaling}})), ErrorCode::corrupt, "short_factor has 2 numbers for 12 pairs");
  scaling["short_factor"] = {0};
  EXPECT_ERROR(spec_of(with(c, {{"rope_scaling", scaling}})), ErrorCode::corrupt, "short_factor");
  EXPECT_ERROR(spec_of(with(c, {{"num_experts_per_tok", 1}})), ErrorCode::unsupported, "num_experts_per_tok");
}

TEST(Phimoe, LongContextsHaveTheirOwnFactors) {
  const Config c(golden_config("phimoe"), "config.json");
  EXPECT_EQ(read_spec(c, 4096).layers, read_spec(c).layers) << "short ones do";
  const ModelSpec s = read_spec(c, 4097);
  EXPECT_EQ(s.max_positions, 131072);
  for (const LayerSpec& layer : s.layers) {
    EXPECT_EQ(layer.attention.rope.divisors.back(), 7.6);
    EXPECT_DOUBLE_EQ(layer.attention.rope.amplitude, 1.31);
  }
}

TEST(Llama4, LayersDiffer) {
  const json c = golden_config("llama4_text");
  const ModelSpec s = spec_of(c);
  EXPECT_EQ(s.layers[0].attention.chunk, 48);
  EXPECT_EQ(s.layers[3].attention.chunk, 0);
  EXPECT_EQ(s.layers[3].attention.rope.dim, 0);
  EXPECT_EQ(s.layers[3].attention.tuning_step, 16);
  EXPECT_EQ(s.layers[0].mlp.width, 144);
  EXPECT_TRUE(s.layers[0].mlp.dense());
  EXPECT_TRUE(s.layers[1].mlp.router.weighs_input);
  EXPECT_EQ(spec_of(with(c, {{"no_rope_layers", {0, 1, 1, 1}}})).layers[0].attention.rope.dim, 0);
  EXPECT_FALSE(spec_of(with(c, {{"moe_layers", {0, 3}}})).layers[0].mlp.dense());
  EXPECT_ERROR(spec_of(with(c, {{"no_rope_layers", {0, 1}}})), ErrorCode::corrupt, "no_rope_layers has 2 entries");
  EXPECT_TRUE(spec_of(with(c, {{"moe_layers", json::array()}})).layers[1].mlp.dense());
  const ModelSpec typed = spec_of(with(c, {{"layer_types", {"full_attention", "chunked_attention", "chunked_attention", "chunked_attention"}}}));
  EXPECT_EQ(typed.layers[0].attention.chunk, 0);
  EXPECT_EQ(typed.layers[0].attention.rope, s.layers[0].attention.rope);
  EXPECT_EQ(typed.layers[3].attention.chunk, 48);
  EXPECT_EQ(typed.layers[3].attention.rope.dim, 0);
  EXPECT_ERROR(spec_of(with(c, {{"layer_types", {"full_attention"}}})), ErrorCode::corrupt, "layer_types has 1 entries");
  const json none(4, "linear_attention");
  EXPECT_ERROR(spec_of(with(c, {{"layer_types", none}})), ErrorCode::unsupported, "linear_attention");
  json whole = c;
  whole["attention_chunk_size"] = nullptr;
  EXPECT_EQ(spec_of(whole).layers[0].attention.chunk, 0);
  EXPECT_EQ(spec_of(with(c, {{"attn_temperature_tuning", 4}})).layers, s.layers) << "as published";
}

TEST(Llama4, WithImagesIsTheSameModelUnderOtherNames) {
  const json text = golden_config("llama4_text");
  const json whole = {{"architectures", {"Llama4ForConditionalGeneration"}}, {"model_type", "llama4"}, {"text_config", text}};
  const ModelSpec s = spec_of(whole);
  EXPECT_EQ(s.layers, spec_of(text).layers);
  const auto table = tensor_table(s);
  EXPECT_EQ(table.front().name, "language_model.model.embed_tokens.weight");
  EXPECT_EQ(table.back().name, "language_model.lm_head.weight");
  EXPECT_NE(reason_to_skip(s, "vision_model.patch_embedding.linear.weight"), "");
  EXPECT_EQ(reason_to_skip(spec_of(text), "vision_model.patch_embedding.linear.weight"), "");
}

TEST(Gemma4, GlobalLayersAreWiderAndHaveKeysForValues) {
  const json c = golden_config("gemma4");
  const ModelSpec s = spec_of(c);
  const AttentionSpec& local = s.layers[0].attention;
  const AttentionSpec& global = s.layers[1].attention;
  EXPECT_EQ(local.head_dim, 16);
  EXPECT_EQ(local.window, 24);
  EXPECT_FALSE(local.k_is_v);
  EXPECT_EQ(global.head_dim, 32);
  EXPECT_EQ(global.num_kv_heads, 1);
  EXPECT_TRUE(global.k_is_v);
  EXPECT_EQ(global.rope.pairs, 4);
  EXPECT_EQ(s.logit_cap, 8);
  json slower = c;
  slower["text_config"]["rope_parameters"]["full_attention"]["factor"] = 8;
  EXPECT_EQ(spec_of(slower).layers[1].attention.rope.factor, 8);
  const auto text = [&](const json& change) { return with(c, {{"text_config", with(c.at("text_config"), change)}}); };
  EXPECT_ERROR(spec_of(text({{"global_head_dim", 1}})), ErrorCode::corrupt, "global_head_dim");
  EXPECT_ERROR(spec_of(text({{"num_global_key_value_heads", 3}})), ErrorCode::corrupt, "num_global_key_value_heads");
  EXPECT_ERROR(spec_of(text({{"enable_moe_block", false}})), ErrorCode::unsupported, "enable_moe_block");
  EXPECT_ERROR(spec_of(text({{"hidden_size_per_layer_input", 256}})), ErrorCode::unsupported, "hidden_size_per_layer_input");
  EXPECT_ERROR(spec_of(text({{"hidden_activation", "silu"}})), ErrorCode::unsupported, "hidden_activation");
}

TEST(Opt, PositionsAreATableAndOtherKindsAreRefused) {
  const json c = golden_config("opt");
  const ModelSpec s = spec_of(c);
  EXPECT_EQ(s.positions, 514);
  EXPECT_FALSE(s.layers[0].mlp.has_up());
  EXPECT_ERROR(spec_of(with(c, {{"do_layer_norm_before", false}})), ErrorCode::unsupported, "do_layer_norm_before");
  EXPECT_ERROR(spec_of(with(c, {{"word_embed_proj_dim", 48}})), ErrorCode::unsupported, "word_embed_proj_dim");
  EXPECT_ERROR(spec_of(with(c, {{"activation_function", "gelu"}})), ErrorCode::unsupported, "activation_function");
}

// Every field of every golden config.json, with every other kind of value: a spec that can be worked with, or an error, but no crash.
TEST(HostileNumbers, AnyFieldOfAnyFamilyMayBeAnything) {
  const std::vector<json> values = {nullptr,        -1,        0, 1, 3, 1e300, -1e300, 0.5, 1LL << 40, "x", true, false, json::array(), {1, 2},
                                    json::object(), {{"a", 1}}};
  size_t read = 0, refused = 0;
  for (const auto& model : std::filesystem::directory_iterator(std::filesystem::path(MOEGEN_SOURCE_DIR) / "tests/data/models")) {
    const json whole = golden_config(model.path().filename());
    const json& inner = whole.contains("text_config") ? whole.at("text_config") : whole;
    for (const auto& [field, old] : inner.items()) {
      for (const json& value : values) {
        const json changed = with(inner, {{field, value}});
        try {
          const ModelSpec s = spec_of(whole.contains("text_config") ? with(whole, {{"text_config", changed}}) : changed);
          if (s.hidden < 4096 && s.layers.size() < 64) {
            EXPECT_FALSE(tensor_table(s).empty());
          }
          ++read;
        } catch (const Error& e) {
          EXPECT_TRUE(e.code() == ErrorCode::corrupt || e.code() == ErrorCode::unsupported) << e.what();
          ++refused;
        }
      }
    }
  }
  EXPECT_GT(read, 1000U);
  EXPECT_GT(refused, 1000U);
}

json without(json config, std::initializer_list<const char*> fields) {
  json& c = config.contains("text_config") ? config["text_config"] : config;
  for (const char* field : fields) c.erase(field);
  return config;
}

// What the config classes of transformers have for fields that are left out.
TEST(EveryFamily, HasTheDefaultsOfItsConfigClass) {
  EXPECT_EQ(spec_of(without(qwen3_config(), {"head_dim"})).layers[0].attention.head_dim, 128);
  EXPECT_TRUE(spec_of(without(golden_config("ernie4_5_moe"), {"tie_word_embeddings"})).tied_embeddings);
  EXPECT_EQ(spec_of(without(golden_config("glm4_moe"), {"partial_rotary_factor"})).layers[0].attention.rope.dim, 12);
  const RopeSpec gpt = spec_of(without(golden_config("gpt_oss"), {"rope_scaling"})).layers[0].attention.rope;
  EXPECT_EQ(gpt.scaling, RopeSpec::Scaling::yarn);
  EXPECT_EQ(gpt.factor, 32);
  EXPECT_FALSE(gpt.truncate);
  const MlpSpec v3 = spec_of(without(golden_config("deepseek_v3"), {"routed_scaling_factor", "n_shared_experts"})).layers[2].mlp;
  EXPECT_EQ(v3.router.scaling, 2.5F);
  EXPECT_EQ(v3.shared_width, v3.width);
  EXPECT_EQ(spec_of(without(golden_config("gemma4"), {"rope_parameters"})).layers[1].attention.rope.pairs, 4);
  EXPECT_EQ(spec_of(without(golden_config("mixtral"), {"eos_token_id"})).eos_ids, std::vector<int32_t>{2});
}

TEST(DeepseekV3, NullIsNoneWhereAbsenceIsADefault) {
  EXPECT_EQ(spec_of(with_null(golden_config("deepseek_v3"), "q_lora_rank")).layers[0].attention.latent.q_rank, 0);
  EXPECT_EQ(spec_of(without(golden_config("deepseek_v3"), {"q_lora_rank"})).layers[0].attention.latent.q_rank, 1536);
}

TEST(Gemma4, LayersThatSeeAllInTheSpellingOfTransformers5) {
  const json v4 = golden_config("gemma4");
  json v5 = without(v4, {"global_head_dim", "num_global_key_value_heads"});
  for (const char* layer : {"01", "03"}) v5["text_config"]["per_layer_config"][layer] = {{"head_dim", 32}, {"num_key_value_heads", 1}};
  EXPECT_EQ(spec_of(v5).layers, spec_of(v4).layers);
}

TEST(Gemma4, TheLastLayerSeesAll) {
  json c = golden_config("gemma4");
  c["text_config"]["layer_types"][3] = "sliding_attention";
  EXPECT_EQ(spec_of(c).layers, spec_of(golden_config("gemma4")).layers);
}

TEST(GptOss, AnotherAlphaOfTheActivationIsRefused) {
  EXPECT_ERROR(spec_of(with(golden_config("gpt_oss"), {{"swiglu_alpha", 1.5}})), ErrorCode::unsupported, "swiglu_alpha");
}

TEST(Opt, NormsHaveTheirOwnEpsilon) { EXPECT_FLOAT_EQ(spec_of(golden_config("opt")).norm_eps, 1e-5F); }

// What transformers does not read, other programs do, or the other way round: better no answer than one of two.
TEST(EveryFamily, RefusesWhatProgramsReadDifferently) {
  const auto refused = [](const char* golden, const json& patch, const char* word) {
    EXPECT_ERROR(spec_of(with(golden_config(golden), patch)), ErrorCode::unsupported, word);
  };
  refused("ernie4_5_moe", {{"moe_norm_min", 0.9}}, "moe_norm_min");
  refused("olmoe", {{"clip_qkv", 0}}, "clip_qkv 0");
  refused("deepseek_v2", {{"rope_interleave", false}}, "rope_interleave");
  refused("deepseek_v3", {{"rope_scaling", {{"type", "dynamic"}, {"factor", 4}, {"mscale_all_dim", 1}}}}, "mscale_all_dim");
  refused("glm4_moe", {{"rotary_dim", 4}}, "rotary_dim 4");
  refused("minimax_m2", {{"partial_rotary_factor", 1.0}}, "rotary_dim");
  refused("phimoe", {{"rope_scaling", {{"type", "linear"}, {"factor", 2}, {"short_mscale", 1.3}}}}, "rope type");
  const auto full = [](const char* golden) { return std::vector<std::string>(spec_of(golden_config(golden)).layers.size(), "full_attention"); };
  refused("qwen3_moe", {{"use_sliding_window", true}, {"sliding_window", 9}, {"layer_types", full("qwen3_moe")}}, "layer_types");
  for (const char* one_window : {"mistral", "mixtral", "phimoe"})
    refused(one_window, {{"sliding_window", 9}, {"layer_types", full(one_window)}}, "layer_types");
  refused("minimax_m2", {{"head_dim", 104}, {"rotary_dim", 60}}, "rotary_dim 60 of head_dim 104");
  refused("mixtral", {{"per_layer_config", {{"0", {{"num_experts_per_tok", 1}}}}}}, "per_layer_config");
  json gemma = golden_config("gemma4");
  gemma["text_config"]["per_layer_config"] = {{"0", {{"top_k_experts", 1}}}};
  EXPECT_ERROR(spec_of(gemma), ErrorCode::unsupported, "per_layer_config \"0\": top_k_experts");
  for (const auto& [field, value] :
       std::vector<std::pair<const char*, json>>{{"decoder_sparse_step", 2}, {"mlp_only_layers", {0}}, {"mlp_only_layers", {1}}}) {
    json c = golden_config("qwen3_5_moe");
    c["text_config"][field] = value;
    EXPECT_ERROR(spec_of(c), ErrorCode::unsupported, field);
  }
}

TEST(EveryFamily, RefusesHeadsOfOddWidth) {
  for (const char* golden : {"glm4_moe", "minimax_m2", "qwen3_next"}) {
    json c = with(golden_config(golden), {{"head_dim", 33}, {"partial_rotary_factor", 0.5}});
    c.erase("rotary_dim");
    EXPECT_ERROR(spec_of(c), ErrorCode::unsupported, "head_dim 33, which is odd");
  }
}

TEST(EveryFamily, OlderNamesOfAQuantisationAreRefusedByTheirMethod) {
  const json q = testing::compressed_config("pack-quantized", testing::int_weights(4, 32, true));
  for (const char* golden : {"granitemoe", "gpt_oss"}) {
    json c = golden_config(golden);
    c["compression_config"] = q;
    EXPECT_ERROR(spec_of(c), ErrorCode::unsupported, "compressed-tensors");
  }
}

TEST(TensorNames, OfATextModelWithinAnotherAreComparedWithoutThat) {
  ModelSpec s = spec_of(golden_config("llama4_text"));
  s.family = "llama4";
  s.tied_embeddings = true;
  s.prediction_layers = 1;
  EXPECT_EQ(reason_to_skip(s, "language_model.lm_head.weight"), "tied to the embedding");
  EXPECT_EQ(reason_to_skip(s, fmt::format("language_model.model.layers.{}.eh_proj.weight", s.layers.size())), "predicts further tokens");
  EXPECT_EQ(reason_to_skip(s, "language_model.model.layers.0.x.weight"), "");
  EXPECT_EQ(common_name(s, "language_model.model.embed_tokens.weight"), "model.embed_tokens.weight");
}

TEST(GptOss, RopeParametersThatAreNullAreNone) {
  json c = golden_config("gpt_oss");
  c.erase("rope_scaling");
  c["rope_parameters"] = nullptr;
  EXPECT_EQ(spec_of(c).layers[0].attention.rope.scaling, RopeSpec::Scaling::yarn);
}

TEST(Gemma4, WhetherTheHeadIsTiedIsSaidOfTheWholeModel) {
  json c = golden_config("gemma4");
  c["tie_word_embeddings"] = true;
  c["text_config"]["tie_word_embeddings"] = false;
  EXPECT_TRUE(spec_of(c).tied_embeddings);
}

TEST(EveryFamily, HasGoldenOutputs) {
  for (const Family& f : families()) {
    const std::string_view tested = original(f);
    EXPECT_EQ(spec_of(golden_config(std::string(tested))).family, tested);
  }
}

}  // namespace moegen
