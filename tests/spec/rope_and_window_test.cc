// How families.cc reads rope and sliding windows, in all their spellings.
#include <gtest/gtest.h>

#include <cmath>

#include "spec/families.h"
#include "tests/spec/configs.h"
#include "tests/support/errors.h"

namespace moegen {
namespace {

using nlohmann::json;
using Scaling = RopeSpec::Scaling;

ModelSpec spec_of(const json& config) { return read_spec(Config(config, "config.json")); }
RopeSpec rope_of(const json& config) { return spec_of(config).layers[0].attention.rope; }

std::vector<int> windows_of(const json& config) {
  std::vector<int> out;
  for (const LayerSpec& layer : spec_of(config).layers) out.push_back(layer.attention.window);
  return out;
}

json scaled(const json& rope_scaling) {
  json c = mistral_config();
  c["rope_scaling"] = rope_scaling;
  return c;
}

TEST(Rope, TypeHasTwoSpellings) {
  EXPECT_EQ(rope_of(scaled({{"type", "linear"}, {"factor", 4}})).scaling, Scaling::linear);
  EXPECT_EQ(rope_of(scaled({{"rope_type", "linear"}, {"factor", 4.0}})).factor, 4);
  EXPECT_EQ(rope_of(scaled({{"rope_type", "linear"}, {"type", "yarn"}, {"factor", 4.0}})).scaling, Scaling::linear) << "rope_type wins";
  EXPECT_EQ(rope_of(scaled(json::object())).scaling, Scaling::none);
}

TEST(Rope, ThetaIsFoundWhereverItStands) {
  json c = mistral_config();
  c.erase("rope_theta");
  EXPECT_EQ(rope_of(c).theta, 10000) << "the default";
  c["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 777}};
  EXPECT_EQ(rope_of(c).theta, 777);
  c["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 2}};
  EXPECT_EQ(rope_of(c).theta, 777) << "a rope_scaling added by hand does not lose theta";
  EXPECT_EQ(rope_of(c).scaling, Scaling::linear) << "rope_scaling before rope_parameters, as in transformers";
}

TEST(Rope, AnEmptyOrNullRopeScalingDoesNotHideRopeParameters) {
  for (const json& empty : {json(nullptr), json::object()}) {
    json c = scaled(empty);
    c["rope_parameters"] = {{"rope_type", "linear"}, {"factor", 3}, {"rope_theta", 5e5}};
    EXPECT_EQ(rope_of(c).scaling, Scaling::linear);
    EXPECT_EQ(rope_of(c).theta, 5e5);
  }
}

// transformers ignores it for these families, other engines do not: no answer is better than one of two.
TEST(Rope, PartialRotationIsRefusedInEitherPlace) {
  json c = mistral_config();
  c["partial_rotary_factor"] = 0.5;
  EXPECT_ERROR(rope_of(c), ErrorCode::unsupported, "partial_rotary_factor");
  c["partial_rotary_factor"] = 1;
  EXPECT_EQ(rope_of(c).dim, 16);
  c["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 1e4}, {"partial_rotary_factor", 0.25}};
  EXPECT_ERROR(rope_of(c), ErrorCode::unsupported, "partial_rotary_factor");
}

TEST(Rope, OtherTypesAreRefusedByNameWhateverElseTheyHave) {
  for (const char* type : {"longrope", "su", "mrope", "proportional"}) {
    EXPECT_ERROR(rope_of(scaled({{"rope_type", type}})), ErrorCode::unsupported, std::string("rope type \"") + type + "\"");
  }
}

// Its base is another one only beyond max_position_embeddings, which is the context's end.
TEST(Rope, DynamicIsPlainInsideTheContext) {
  EXPECT_EQ(rope_of(scaled({{"type", "dynamic"}, {"factor", 4.0}})), rope_of(mistral_config()));
  EXPECT_EQ(spec_of(scaled({{"type", "dynamic"}, {"factor", 4.0}})).max_positions, 4096);
}

TEST(Rope, OriginalLengthMayStandBesideTheScaling) {
  json c = scaled({{"rope_type", "yarn"}, {"factor", 4.0}});
  c["original_max_position_embeddings"] = 1024;
  EXPECT_EQ(rope_of(c).original_len, 1024);
}

TEST(Rope, ParametersForEachLayerTypeAreRefusedNotIgnored) {
  json c = qwen3_config();
  c["rope_parameters"] = {{"full_attention", {{"rope_type", "default"}, {"rope_theta", 1e6}}}, {"sliding_attention", {{"rope_theta", 1e4}}}};
  EXPECT_ERROR(rope_of(c), ErrorCode::unsupported, "rope for each layer type");
}

TEST(Rope, LinearAndLlama3NeedAFactorAndTheirNumbers) {
  EXPECT_ERROR(rope_of(scaled({{"rope_type", "linear"}})), ErrorCode::corrupt, "factor is missing");
  EXPECT_ERROR(rope_of(scaled({{"rope_type", "linear"}, {"factor", 0}})), ErrorCode::corrupt, "factor");
  EXPECT_ERROR(rope_of(scaled({{"rope_type", "llama3"}, {"factor", 8}, {"high_freq_factor", 4}})), ErrorCode::corrupt, "low_freq_factor");
  const json crossed = {{"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 5}, {"high_freq_factor", 4}};
  EXPECT_ERROR(rope_of(scaled(crossed)), ErrorCode::corrupt, "low_freq_factor 5 is above high_freq_factor 4");
}

TEST(Yarn, DefaultsAndContext) {
  const json c = scaled({{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 2048}});
  const RopeSpec rope = rope_of(c);
  EXPECT_EQ(rope.beta_fast, 32);
  EXPECT_EQ(rope.beta_slow, 1);
  EXPECT_TRUE(rope.truncate);
  EXPECT_DOUBLE_EQ(rope.amplitude, 0.1 * std::log(4.0) + 1);
  EXPECT_EQ(spec_of(c).max_positions, 8192) << "four times the original context, more than max_position_embeddings";
}

TEST(Yarn, WithoutAFactorItIsTheRatioOfTheContexts) {
  const RopeSpec rope = rope_of(scaled({{"rope_type", "yarn"}, {"factor", nullptr}, {"original_max_position_embeddings", 512}}));
  EXPECT_EQ(rope.factor, 8) << "4096 / 512";
}

TEST(Yarn, WithoutAnOriginalContextItIsTheModels) {
  EXPECT_EQ(rope_of(scaled({{"rope_type", "yarn"}, {"factor", 2}})).original_len, 4096);
  json c = scaled({{"rope_type", "yarn"}, {"factor", 2}, {"original_max_position_embeddings", 512}});
  c.erase("max_position_embeddings");
  EXPECT_EQ(rope_of(c).original_len, 512);
}

TEST(Yarn, AttentionFactorByMscaleOnlyWhereBothAreThereAndNotZero) {
  json y = {{"rope_type", "yarn"}, {"factor", 40.0}, {"original_max_position_embeddings", 512}, {"mscale", 0.7}, {"mscale_all_dim", 1.2}};
  const double log40 = std::log(40.0);
  EXPECT_DOUBLE_EQ(rope_of(scaled(y)).amplitude, (0.07 * log40 + 1) / (0.12 * log40 + 1));
  y["mscale_all_dim"] = 0;
  EXPECT_DOUBLE_EQ(rope_of(scaled(y)).amplitude, 0.1 * log40 + 1);
  y["attention_factor"] = 1.25;
  EXPECT_DOUBLE_EQ(rope_of(scaled(y)).amplitude, 1.25);
  y["factor"] = 0.5;
  y["attention_factor"] = nullptr;
  EXPECT_DOUBLE_EQ(rope_of(scaled(y)).amplitude, 1) << "a factor below 1 does not change the amplitude";
}

// The rules of each family's configuration class in transformers 5.
TEST(Window, MistralHasOneInEveryLayerAndADefault) {
  json c = mistral_config();
  EXPECT_EQ(windows_of(c), (std::vector<int>{32, 32, 32}));
  c["sliding_window"] = nullptr;
  EXPECT_EQ(windows_of(c), (std::vector<int>{0, 0, 0})) << "null: none";
  c.erase("sliding_window");
  EXPECT_EQ(windows_of(c), (std::vector<int>{4096, 4096, 4096})) << "not mentioned: the class's default";
}

TEST(Window, QwensHaveOneOnlyIfTheySayThatTheyUseIt) {
  for (json c : {qwen3_config(), qwen2_moe_config(), qwen3_moe_config()}) {
    c["sliding_window"] = 16;
    for (const int window : windows_of(c)) EXPECT_EQ(window, 0) << c["model_type"];
  }
}

TEST(Window, Qwen3SlidesFromMaxWindowLayersOn) {
  json c = qwen3_config();
  c.update({{"use_sliding_window", true}, {"sliding_window", 16}, {"max_window_layers", 1}});
  EXPECT_EQ(windows_of(c), (std::vector<int>{0, 16, 16}));
  c.erase("max_window_layers");
  EXPECT_EQ(windows_of(c), (std::vector<int>{0, 0, 0})) << "28 by default";
}

TEST(Window, Qwen2MoeSlidesInEvenLayersBelowMaxWindowLayers) {
  json c = qwen2_moe_config();
  c.update({{"use_sliding_window", true}, {"sliding_window", 16}, {"num_hidden_layers", 6}, {"max_window_layers", 3}});
  EXPECT_EQ(windows_of(c), (std::vector<int>{16, 0, 16, 0, 0, 0}));
}

TEST(Window, Qwen3MoeSlidesInEveryLayer) {
  json c = qwen3_moe_config();
  c.update({{"use_sliding_window", true}, {"sliding_window", 16}, {"max_window_layers", 2}});
  EXPECT_EQ(windows_of(c), (std::vector<int>{16, 16, 16, 16}));
}

TEST(Window, LayerTypesDecideWhereTheyAreGiven) {
  json c = qwen3_config();
  c.update({{"use_sliding_window", true}, {"sliding_window", 16}, {"max_window_layers", 0}});
  c["layer_types"] = {"sliding_attention", "full_attention", "sliding_attention"};
  EXPECT_EQ(windows_of(c), (std::vector<int>{16, 0, 16}));
  c["layer_types"] = {"sliding_attention", "full_attention"};
  EXPECT_ERROR(windows_of(c), ErrorCode::corrupt, "layer_types has 2 entries for 3 layers");
  c["layer_types"] = {"sliding_attention", "full_attention", "linear_attention"};
  EXPECT_ERROR(windows_of(c), ErrorCode::unsupported, "linear_attention");
}

TEST(Window, HostileWindowsAreRefused) {
  for (const json& window : {json(0), json(-1), json(1e12), json("32")}) {
    json c = mistral_config();
    c["sliding_window"] = window;
    EXPECT_ERROR(windows_of(c), ErrorCode::corrupt, "sliding_window");
  }
}

}  // namespace
}  // namespace moegen
