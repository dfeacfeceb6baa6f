#include "spec/defaults.h"

#include <algorithm>
#include <array>

namespace moegen {
namespace {

struct Defaults {
  std::string_view model_type;
  std::string_view json;
};

constexpr std::array kDefaults{
    Defaults{"llama", R"({"eos_token_id": 2})"},
    Defaults{"mistral", R"({"num_key_value_heads": 8, "sliding_window": 4096, "max_position_embeddings": 131072, "eos_token_id": 2})"},
    Defaults{"qwen3", R"({"num_key_value_heads": 32, "head_dim": 128, "sliding_window": 4096, "max_window_layers": 28,
        "max_position_embeddings": 32768})"},
    Defaults{"opt", R"({"tie_word_embeddings": true, "eos_token_id": 2})"},
    Defaults{"mixtral", R"({"num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 1e6, "max_position_embeddings": 131072,
        "num_experts_per_tok": 2, "eos_token_id": 2})"},
    Defaults{"qwen2_moe", R"({"num_key_value_heads": 16, "qkv_bias": true, "sliding_window": 4096, "max_window_layers": 28,
        "max_position_embeddings": 32768, "shared_expert_intermediate_size": 5632, "num_experts_per_tok": 4})"},
    Defaults{"qwen3_moe", R"({"num_key_value_heads": 4, "sliding_window": 4096, "max_position_embeddings": 32768, "num_experts_per_tok": 8})"},
    Defaults{"qwen3_next", R"({"num_key_value_heads": 2, "head_dim": 256, "partial_rotary_factor": 0.25, "full_attention_interval": 4,
        "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_num_key_heads": 16,
        "linear_num_value_heads": 32, "shared_expert_intermediate_size": 512, "norm_topk_prob": true, "max_position_embeddings": 32768,
        "num_experts_per_tok": 10})"},
    Defaults{"qwen3_5_moe", R"({"num_key_value_heads": 2, "head_dim": 256, "partial_rotary_factor": 0.25, "full_attention_interval": 4,
        "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_num_key_heads": 16,
        "linear_num_value_heads": 32, "shared_expert_intermediate_size": 512, "max_position_embeddings": 32768, "num_experts_per_tok": 8})"},
    Defaults{"olmoe", R"({"rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "num_experts_per_tok": 8, "eos_token_id": 50279})"},
    Defaults{"deepseek_v2", R"({"q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "n_shared_experts": 2, "eos_token_id": 2})"},
    Defaults{"deepseek_v3", R"({"q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "n_shared_experts": 1, "n_group": 8, "topk_group": 4, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "norm_topk_prob": true,
        "routed_scaling_factor": 2.5, "num_nextn_predict_layers": 1, "max_position_embeddings": 4096, "eos_token_id": 1})"},
    Defaults{"dots1", R"({"num_key_value_heads": 32, "sliding_window": 4096, "max_window_layers": 62, "n_group": 1, "topk_group": 1})"},
    Defaults{"glm4_moe", R"({"num_key_value_heads": 8, "rms_norm_eps": 1e-5, "partial_rotary_factor": 0.5, "n_shared_experts": 1, "n_group": 1,
        "topk_group": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 1, "norm_topk_prob": true, "num_nextn_predict_layers": 1,
        "max_position_embeddings": 131072})"},
    Defaults{"minimax_m2", R"({"num_key_value_heads": 8, "head_dim": 128, "rope_theta": 5e6, "max_position_embeddings": 196608,
        "num_experts_per_tok": 8, "eos_token_id": 200020})"},
    Defaults{"gpt_oss", R"({"num_key_value_heads": 8, "head_dim": 64, "rms_norm_eps": 1e-5, "rope_theta": 150000, "sliding_window": 128,
        "attention_bias": true, "swiglu_limit": 7, "max_position_embeddings": 131072, "num_experts_per_tok": 4,
        "rope_parameters": {"rope_type": "yarn", "factor": 32, "beta_fast": 32, "beta_slow": 1, "truncate": false,
                            "original_max_position_embeddings": 4096}})"},
    Defaults{"ernie4_5_moe", R"({"num_key_value_heads": 4, "rms_norm_eps": 1e-5, "rope_theta": 5e5, "tie_word_embeddings": true, "moe_k": 6,
        "moe_num_shared_experts": 2, "moe_layer_start_index": 1, "max_position_embeddings": 131072, "eos_token_id": 2})"},
    Defaults{"granitemoe", R"({"num_experts_per_tok": 2, "eos_token_id": 2})"},
    Defaults{"hunyuan_v1_moe", R"({"rms_norm_eps": 1e-5, "eos_token_id": 2})"},
    Defaults{"phimoe", R"({"num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 1e6, "router_jitter_noise": 0.01,
        "num_experts_per_tok": 2, "max_position_embeddings": 131072, "eos_token_id": 2})"},
    Defaults{"llama4_text", R"({"num_key_value_heads": 8, "head_dim": 128, "rms_norm_eps": 1e-5, "rope_theta": 5e5, "use_qk_norm": true,
        "intermediate_size_mlp": 16384, "attention_chunk_size": 8192, "floor_scale": 8192, "attn_scale": 0.1, "attn_temperature_tuning": true,
        "num_experts_per_tok": 1, "max_position_embeddings": 131072, "eos_token_id": 2})"},
    Defaults{"gemma4", R"({"num_key_value_heads": 4, "head_dim": 256, "global_head_dim": 512, "sliding_window": 512, "tie_word_embeddings": true,
        "hidden_size_per_layer_input": 256, "max_position_embeddings": 131072, "eos_token_id": 1,
        "rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                            "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6}}})"},
};

}  // namespace

std::string_view defaults_of(std::string_view model_type) {
  const auto it = std::find_if(kDefaults.begin(), kDefaults.end(), [&](const Defaults& d) { return d.model_type == model_type; });
  return it == kDefaults.end() ? "{}" : it->json;
}

}  // namespace moegen
