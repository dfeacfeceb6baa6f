#pragma once

#include <nlohmann/json.hpp>

namespace moegen {

/// config.json of each family as transformers 4 writes it, small.
inline nlohmann::json common_config(const char* type, const char* architecture) {
  return {{"architectures", {architecture}},
          {"model_type", type},
          {"hidden_act", "silu"},
          {"hidden_size", 64},
          {"intermediate_size", 96},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"vocab_size", 320},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"max_position_embeddings", 4096},
          {"tie_word_embeddings", false},
          {"torch_dtype", "bfloat16"},
          {"eos_token_id", 2},
          {"bos_token_id", 1},
          {"attention_dropout", 0.0},
          {"transformers_version", "4.57.1"}};
}

inline nlohmann::json llama_config() {
  auto c = common_config("llama", "LlamaForCausalLM");
  c.update({{"rope_theta", 500000.0}, {"attention_bias", false}, {"mlp_bias", false}, {"head_dim", 16}});
  c["rope_scaling"] = {
      {"rope_type", "llama3"}, {"factor", 32.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 512}};
  return c;
}

inline nlohmann::json mistral_config() {
  auto c = common_config("mistral", "MistralForCausalLM");
  c["sliding_window"] = 32;
  return c;
}

inline nlohmann::json mixtral_config() {
  auto c = common_config("mixtral", "MixtralForCausalLM");
  c.update({{"rope_theta", 1e6}, {"intermediate_size", 80}, {"num_local_experts", 8}, {"num_experts_per_tok", 2}, {"sliding_window", nullptr}});
  return c;
}

inline nlohmann::json qwen3_config() {
  auto c = common_config("qwen3", "Qwen3ForCausalLM");
  c.update({{"head_dim", 32}, {"tie_word_embeddings", true}, {"rope_scaling", nullptr}, {"sliding_window", nullptr}, {"use_sliding_window", false}});
  c["max_window_layers"] = 28;
  return c;
}

inline nlohmann::json qwen2_moe_config() {
  auto c = common_config("qwen2_moe", "Qwen2MoeForCausalLM");
  c.update({{"intermediate_size", 208}, {"num_experts", 10}, {"num_experts_per_tok", 4}, {"moe_intermediate_size", 48}, {"norm_topk_prob", false}});
  c.update({{"shared_expert_intermediate_size", 144}, {"sliding_window", 4096}, {"use_sliding_window", false}, {"max_window_layers", 21}});
  c["mlp_only_layers"] = {1};
  return c;
}

inline nlohmann::json qwen3_moe_config() {
  auto c = common_config("qwen3_moe", "Qwen3MoeForCausalLM");
  c.update({{"num_hidden_layers", 4}, {"head_dim", 32}, {"num_experts", 16}, {"num_experts_per_tok", 4}, {"moe_intermediate_size", 32}});
  c.update({{"norm_topk_prob", true}, {"decoder_sparse_step", 2}, {"sliding_window", nullptr}, {"use_sliding_window", false}});
  c["mlp_only_layers"] = nlohmann::json::array();
  return c;
}

inline nlohmann::json gpt_oss_config() {
  auto c = common_config("gpt_oss", "GptOssForCausalLM");
  c.update({{"num_local_experts", 6}, {"num_experts_per_tok", 2}, {"sliding_window", 24}});
  return c;
}

inline nlohmann::json mxfp4_config(nlohmann::json config) {
  config["quantization_config"] = {{"quant_method", "mxfp4"}};
  return config;
}

inline nlohmann::json olmoe_config() {
  auto c = common_config("olmoe", "OlmoeForCausalLM");
  c.update({{"num_key_value_heads", 4}, {"intermediate_size", 32}, {"num_experts", 16}, {"num_experts_per_tok", 4}, {"norm_topk_prob", false}});
  c["clip_qkv"] = 1.5;
  return c;
}

/// The same in the spelling of transformers 5: dtype, rope_parameters.
inline nlohmann::json as_transformers5(nlohmann::json c) {
  c["dtype"] = c["torch_dtype"];
  c.erase("torch_dtype");
  nlohmann::json rope = c.contains("rope_scaling") && c["rope_scaling"].is_object() ? c["rope_scaling"] : nlohmann::json{{"rope_type", "default"}};
  rope["rope_theta"] = c["rope_theta"];
  c.erase("rope_theta");
  c.erase("rope_scaling");
  c["rope_parameters"] = rope;
  c["transformers_version"] = "5.0.0";
  return c;
}

}  // namespace moegen
