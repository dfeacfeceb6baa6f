"""Random models of every golden family: dimensions, switches, and ways to write them. Standard library only; deterministic in (family, seed, index)."""
import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared" / "tools"))
import golden_models

HIDDEN = (36, 40, 50, 51, 60, 72, 77, 88, 100, 120, 132, 144, 176, 200)
WIDTHS = (17, 24, 33, 40, 48, 56, 72, 90, 112, 130)
HEAD_DIMS = (8, 10, 12, 20, 24, 36, 48, 64, 80, 96, 112, 128, 160, 192, 256)


def attention(r, own_head_dim=True):
    """Heads and hidden size; where a family has no head_dim of its own, hidden is a multiple of heads."""
    while True:
        kv, group, dim = r.choice((1, 1, 2, 3, 5)), r.choice((1, 2, 3, 4, 5, 7, 8)), r.choice(HEAD_DIMS)
        hidden = r.choice(HIDDEN) if own_head_dim else kv * group * dim
        if kv * group <= 24 and 24 <= kv * group * dim <= 640 and 36 <= hidden <= 256:
            break
    out = {"hidden_size": hidden, "num_attention_heads": kv * group, "num_key_value_heads": kv}
    return {**out, "head_dim": dim} if own_head_dim else out


def common(r, own_head_dim=True, layers=(1, 2, 3, 4, 5, 9)):
    return {"vocab_size": r.randrange(180, 420), "intermediate_size": r.choice(WIDTHS), "num_hidden_layers": r.choice(layers),
            "rope_theta": r.choice((1e4, 5e5, 1234567.0, 5e6)), "rms_norm_eps": r.choice((1e-6, 1e-5)),
            "tie_word_embeddings": r.random() < 0.3, "max_position_embeddings": r.choice((512, 2048, 4096)), **attention(r, own_head_dim)}


def experts(r, count, per_token="num_experts_per_tok"):
    n = r.choice((3, 4, 5, 7, 12, 16, 24, 33, 48, 64))
    k = n if n <= 5 and r.random() < 0.3 else r.randint(1, min(n - 1, 6))
    return {count: n, per_token: k}


def grouped_experts(r):
    groups = r.choice((1, 1, 2, 3, 4))
    keep, size = r.randint(1, groups), r.choice((3, 4, 6))
    n = size * groups if groups > 1 else r.choice((3, 5, 12, 16, 33, 64))
    return {"n_routed_experts": n, "n_group": groups, "topk_group": keep,
            "num_experts_per_tok": r.randint(1, min(6, size * keep if groups > 1 else n - 1)), "moe_intermediate_size": r.choice(WIDTHS),
            "n_shared_experts": r.choice((0, 1, 1, 2)), "routed_scaling_factor": r.choice((1.0, 1.7, 2.5)), "norm_topk_prob": r.random() < 0.6}


def yarn(r, original=64):
    out = {"rope_type": "yarn", "factor": r.choice((4.0, 16.0, 40.0)), "original_max_position_embeddings": original}
    if r.random() < 0.5:
        out.update(beta_fast=r.choice((16.0, 32.0, 48.0)), beta_slow=r.choice((1.0, 2.0)))
    if r.random() < 0.3:
        out["attention_factor"] = 1.1
    if r.random() < 0.4:
        out["truncate"] = False
    return out


def rope(r):
    return r.choice((None, None, {"type": "linear", "factor": 3.0}, {"rope_type": "dynamic", "factor": 2.0}, yarn(r), yarn(r),
                     golden_models._llama3(r.choice((8.0, 32.0)), 64)))


def layer_types(r, layers, other="sliding_attention", last=None):
    types = [r.choice((other, "full_attention")) for _ in range(layers)]
    return types[:-1] + [last or types[-1]]


def windowed(r, c):
    """Qwen's three ways to say which layers slide."""
    c["sliding_window"], c["use_sliding_window"] = r.choice((7, 13, 33, 50)), r.random() < 0.6
    c["max_window_layers"] = r.randint(0, c["num_hidden_layers"])
    return c


def sparse(r, c):
    c["decoder_sparse_step"] = r.choice((1, 1, 2))
    if c["num_hidden_layers"] > 2 and r.random() < 0.4:
        c["mlp_only_layers"] = [r.randrange(c["num_hidden_layers"])]
    return c


def mixtral(r):
    return {**common(r), **experts(r, "num_local_experts"), "rope_scaling": rope(r), "sliding_window": r.choice((None, 9, 41))}


def qwen2_moe(r):
    c = {**common(r), **experts(r, "num_experts"), "moe_intermediate_size": r.choice(WIDTHS), "rope_scaling": rope(r),
         "shared_expert_intermediate_size": r.choice(WIDTHS), "qkv_bias": r.random() < 0.7, "norm_topk_prob": r.random() < 0.5}
    return sparse(r, windowed(r, c))


def qwen3_moe(r):
    c = {**common(r), **experts(r, "num_experts"), "moe_intermediate_size": r.choice(WIDTHS), "rope_scaling": rope(r),
         "attention_bias": r.random() < 0.4, "norm_topk_prob": r.random() < 0.5}
    return sparse(r, windowed(r, c))


def olmoe(r):
    return {**common(r, False), **experts(r, "num_experts"), "rope_scaling": rope(r), "clip_qkv": r.choice((None, 0.7, 2.0)),
            "norm_topk_prob": r.random() < 0.5, "attention_bias": r.random() < 0.3}


def latent(r):
    heads = r.choice((1, 2, 3, 5, 7, 8, 12))
    rank = r.choice((16, 24, 40, 64, 90, 130))
    return {"vocab_size": r.randrange(180, 420), "hidden_size": heads * r.choice((20, 24, 36)) if heads < 7 else heads * 12,
            "intermediate_size": r.choice(WIDTHS), "num_hidden_layers": r.choice((1, 2, 3, 4, 8)), "num_attention_heads": heads,
            "num_key_value_heads": heads, "q_lora_rank": r.choice((None, 17, 32, 50)), "kv_lora_rank": rank,
            "qk_nope_head_dim": r.choice((8, 20, 33, 64, 128)), "qk_rope_head_dim": r.choice((4, 8, 20, 64)),
            "v_head_dim": r.choice((8, 21, 36, 64, 128)), "tie_word_embeddings": r.random() < 0.3, "rope_theta": r.choice((1e4, 5e4, 1e6)),
            "first_k_dense_replace": r.choice((0, 1, 2)), "max_position_embeddings": 2560,
            "rope_scaling": r.choice((None, golden_models._yarn_deepseek(r.choice((4, 40)), 64, r.choice((0.707, 1.0)), r.choice((0.707, 1.0, 0))),
                                      yarn(r), {"type": "linear", "factor": 3.0}))}


def deepseek_v2(r):
    c = {**latent(r), **grouped_experts(r), "norm_topk_prob": False, "topk_method": r.choice(("greedy", "group_limited_greedy"))}
    if c["topk_method"] == "greedy":
        c.update(n_group=1, topk_group=1)
    return c


def deepseek_v3(r):
    return {**latent(r), **grouped_experts(r), "num_nextn_predict_layers": 0, "rope_interleave": r.random() < 0.8}


def gpt_oss(r):
    c = {**common(r), **experts(r, "num_local_experts"), "attention_bias": r.random() < 0.8, "swiglu_limit": r.choice((0.8, 1.5, 7.0)),
         "sliding_window": r.choice((5, 13, 24, 33)), "rope_scaling": r.choice((None, yarn(r), {**yarn(r), "truncate": False}))}
    return {**c, "layer_types": layer_types(r, c["num_hidden_layers"])}


def gpt_oss_mxfp4(r):
    return {**gpt_oss(r), "hidden_size": r.choice((32, 64, 96, 160, 224)), "intermediate_size": r.choice((32, 64, 96, 160))}


def glm4_moe(r):
    return {**common(r), **grouped_experts(r), "partial_rotary_factor": r.choice((0.5, 0.5, 1.0)), "use_qk_norm": r.random() < 0.5,
            "attention_bias": r.random() < 0.6, "first_k_dense_replace": r.choice((0, 1, 2)), "num_nextn_predict_layers": 0,
            "head_dim": r.choice((8, 12, 24, 40, 64, 128)), "rope_scaling": rope(r)}


def minimax_m2(r):
    c = {**common(r), **experts(r, "num_local_experts")}
    return {**c, "rotary_dim": r.choice((2, c["head_dim"] // 2 // 2 * 2, c["head_dim"])), "rope_scaling": rope(r)}


def linear_attention(r):
    keys, dim = r.choice((1, 2, 3, 4)), r.choice((4, 8, 12, 16, 20, 32, 64))
    return {"linear_num_key_heads": keys, "linear_num_value_heads": keys * r.choice((1, 2, 3)), "linear_key_head_dim": dim,
            "linear_value_head_dim": r.choice((dim, 8, 12, 20, 36)), "linear_conv_kernel_dim": r.choice((2, 3, 4, 5))}


def qwen3_next(r):
    c = {**common(r, layers=(2, 3, 4, 5, 8)), **experts(r, "num_experts"), **linear_attention(r), "moe_intermediate_size": r.choice(WIDTHS),
         "shared_expert_intermediate_size": r.choice(WIDTHS), "norm_topk_prob": r.random() < 0.7, "head_dim": r.choice((8, 16, 24, 40, 64, 256)),
         "full_attention_interval": r.choice((2, 3, 4)), "rope_scaling": rope(r)}
    c["partial_rotary_factor"] = r.choice((0.25, 0.5, 1.0))
    if r.random() < 0.5 or c["full_attention_interval"] > c["num_hidden_layers"]:
        c["layer_types"] = layer_types(r, c["num_hidden_layers"], "linear_attention", "full_attention")
    return sparse(r, c)


def qwen3_5_moe(r):
    c = {k: v for k, v in qwen3_next(r).items() if k not in ("norm_topk_prob", "rope_theta", "decoder_sparse_step", "mlp_only_layers", "rope_scaling",
                                                             "intermediate_size", "tie_word_embeddings")}
    c["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": c.pop("partial_rotary_factor")}
    return golden_models.qwen3_5_moe(c)


def granitemoe(r):
    return {**common(r, False), **experts(r, "num_local_experts"), "embedding_multiplier": r.choice((1.0, 6.0, 12.0)),
            "attention_multiplier": r.choice((0.05, 0.3)), "residual_multiplier": r.choice((0.22, 0.6, 1.0)), "rope_scaling": rope(r),
            "logits_scaling": r.choice((1.0, 6.0)), "attention_bias": r.random() < 0.4}


def phimoe(r):
    c = {**common(r, False, (1, 2, 3, 4)), "num_local_experts": r.choice((3, 4, 6, 16, 24)), "num_experts_per_tok": 2,
         "router_jitter_noise": r.choice((0.01, 0.1, 0.2)), "attention_bias": r.random() < 0.6, "lm_head_bias": r.random() < 0.6,
         "sliding_window": r.choice((None, 11, 4096)), "original_max_position_embeddings": 4096, "max_position_embeddings": 131072}
    c["tie_word_embeddings"] = False
    dim = c["hidden_size"] // c["num_attention_heads"]
    return {**c, "rope_scaling": r.choice((None, golden_models.longrope(dim, 4096, 0.6), golden_models.longrope(dim, 4096, 0.2)))}


def ernie4_5_moe(r):
    c = {**common(r), "moe_intermediate_size": r.choice(WIDTHS), "moe_num_shared_experts": r.choice((1, 2)), "rope_scaling": rope(r),
         **experts(r, "moe_num_experts", "moe_k"), "moe_layer_start_index": r.choice((0, 1, 2)), "moe_layer_interval": r.choice((1, 1, 2))}
    c["moe_layer_end_index"] = r.choice((-1, c["num_hidden_layers"] - 1))
    return c


def dots1(r):
    c = {**common(r), **grouped_experts(r), "first_k_dense_replace": r.choice((0, 1, 2)), "attention_bias": r.random() < 0.4,
         "sliding_window": r.choice((None, 9, 31)), "rope_scaling": rope(r)}
    return {**c, "max_window_layers": r.randint(0, c["num_hidden_layers"])}


def hunyuan_v1_moe(r):
    c = {**common(r), **experts(r, "num_experts", "moe_topk"), "attention_bias": r.random() < 0.4}
    c["attention_head_dim"], layers = c["head_dim"], c["num_hidden_layers"]
    if r.random() < 0.5:
        c.update(moe_topk=[c["moe_topk"]] * layers, num_shared_expert=[1] * layers, moe_intermediate_size=[c["intermediate_size"]] * layers)
    alpha = {"alpha": 1000.0, "beta_fast": 32, "beta_slow": 1, "factor": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "type": "dynamic"}
    return {**c, "rope_scaling": r.choice((None, alpha, {**alpha, "alpha": 50.0}, {"type": "linear", "factor": 2.0}))}


def llama4_text(r):
    c = {**common(r), **experts(r, "num_local_experts"), "intermediate_size_mlp": r.choice(WIDTHS), "interleave_moe_layer_step": r.choice((1, 2)),
         "attention_chunk_size": r.choice((7, 16, 48, 100)), "use_qk_norm": r.random() < 0.6, "floor_scale": r.choice((5, 16, 8192)),
         "attn_scale": r.choice((0.1, 0.5)), "attn_temperature_tuning": r.random() < 0.7, "no_rope_layer_interval": r.choice((2, 3, 4)),
         "attention_bias": r.random() < 0.3, "rope_scaling": r.choice((None, golden_models._llama3(8.0, 64)))}
    c["num_experts_per_tok"] = 1 if r.random() < 0.7 else min(2, c["num_local_experts"])
    if r.random() < 0.3:
        c["no_rope_layers"] = [r.randint(0, 1) for _ in range(c["num_hidden_layers"])]
    return c


def gemma4(r):
    c = {**common(r), **experts(r, "num_experts", "top_k_experts"), "moe_intermediate_size": r.choice(WIDTHS),
         "global_head_dim": r.choice((16, 32, 48, 128)), "sliding_window": r.choice((9, 24, 33)), "attention_k_eq_v": r.random() < 0.6,
         "final_logit_softcapping": r.choice((None, 8.0, 30.0)), "head_dim": r.choice((8, 16, 24, 64, 256))}
    c.update(vocab_size_per_layer_input=c["vocab_size"], tie_word_embeddings=True)
    del c["rope_theta"]
    if c["attention_k_eq_v"]:
        c["num_global_key_value_heads"] = r.choice([n for n in range(1, c["num_attention_heads"] + 1) if c["num_attention_heads"] % n == 0])
    c["layer_types"] = layer_types(r, c["num_hidden_layers"], last="full_attention")
    c["rope_parameters"] = {"full_attention": {"partial_rotary_factor": r.choice((0.25, 0.5, 1.0)), "rope_theta": r.choice((1e6, 5e5)),
                                               "rope_type": "proportional"}, "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"}}
    return golden_models.gemma4(c)


def llama(r):
    c = {**common(r), "rope_scaling": rope(r), "attention_bias": r.random() < 0.3}
    return {**c, "hidden_size": c["num_attention_heads"] * r.choice((12, 13, 20)) if c["num_attention_heads"] < 12 else c["num_attention_heads"] * 5}


def qwen3(r):
    c = windowed(r, {**common(r), "rope_scaling": rope(r), "attention_bias": r.random() < 0.3})
    if c["use_sliding_window"] and r.random() < 0.5:
        c["layer_types"] = layer_types(r, c["num_hidden_layers"])
    return c


def mistral(r):
    # (Of a window of 1, transformers 5.23 caches everything: [-0:].)
    return {**common(r), "rope_scaling": rope(r), "sliding_window": r.choice((None, 2, 8, 31, 129))}


def opt(r):
    c = {k: v for k, v in common(r, False).items() if k not in ("num_key_value_heads", "intermediate_size", "rope_theta", "rms_norm_eps", "head_dim")}
    return {**c, "ffn_dim": r.choice(WIDTHS), "max_position_embeddings": 256, "word_embed_proj_dim": c["hidden_size"]}


DRAWS = {f.__name__: f for f in (mixtral, qwen2_moe, qwen3_moe, olmoe, deepseek_v2, deepseek_v3, gpt_oss, gpt_oss_mxfp4, glm4_moe, minimax_m2,
                                 qwen3_next, qwen3_5_moe, granitemoe, phimoe, ernie4_5_moe, dots1, hunyuan_v1_moe, llama4_text, gemma4, llama,
                                 qwen3, mistral, opt)}
FP8 = ("qwen3_moe", "deepseek_v3", "glm4_moe", "minimax_m2", "dots1", "mixtral", "qwen3")


def draw(name, seed, index):
    """A variant as make_goldens.py takes it, and how its files are written: "dtype", "spelling" (of transformers 4 or 5), "shards"."""
    r = random.Random(f"{name} {seed} {index}")
    variant = {"family": name.removesuffix("_mxfp4"), "config": DRAWS[name](r), "dtype": r.choice(("bfloat16", "bfloat16", "float32", "float16")),
               "spelling": r.choice((4, 4, 5)), "shards": r.choice((1, 1, 2, 5))}
    if name.endswith("_mxfp4"):
        variant["quant"] = "mxfp4"
    elif name in FP8 and index % 5 == 4:
        variant["quant"] = "fp8"
        variant["config"].update(hidden_size=r.choice((136, 200, 260)), intermediate_size=r.choice((130, 144, 300)))
        if "num_attention_heads" in variant["config"] and name == "deepseek_v3":
            variant["config"]["num_attention_heads"] = variant["config"]["num_key_value_heads"] = 4
    if name == "qwen3_5_moe":
        variant["fused_experts"] = r.random() < 0.5
    variant["exercises"] = json.dumps({k: v for k, v in variant.items() if k != "config"})
    return variant
