#!/usr/bin/env python3
"""Writes a checkpoint with random weights and the layer shapes of a real model, to measure with: bfloat16, sharded, fast.

    tools/make_checkpoint.py /var/tmp/ck/qwen3-30b-4l --shape qwen3-30b-a3b --layers 4

The shapes are public (config.json of Qwen/Qwen3-30B-A3B, mistralai/Mixtral-8x7B-v0.1, deepseek-ai/DeepSeek-V2-Lite); layers and vocabulary are options. Tokens
go in and out as ids (--skip-tokenizer-init), unless --tokenizer names a directory whose tokenizer files are copied.
"""
import argparse
import json
import math
import pathlib
import random
import shutil

SHAPES = {
    "qwen3-30b-a3b": {
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 2048, "num_attention_heads": 32,
        "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768,
        "intermediate_size": 6144, "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [], "rms_norm_eps": 1e-6,
        "rope_theta": 1e6, "attention_bias": False, "max_position_embeddings": 40960,
    },
    "mixtral-8x7b": {
        "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": 4096, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128, "num_local_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 14336,
        "rms_norm_eps": 1e-5, "rope_theta": 1e6, "max_position_embeddings": 32768,
    },
    "deepseek-v2-lite": {
        "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", "hidden_size": 2048, "num_attention_heads": 16,
        "num_key_value_heads": 16, "q_lora_rank": None, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "n_routed_experts": 64, "num_experts_per_tok": 6, "n_shared_experts": 2, "moe_intermediate_size": 1408, "intermediate_size": 10944,
        "first_k_dense_replace": 1, "moe_layer_freq": 1, "scoring_func": "softmax", "topk_method": "greedy", "n_group": 1, "topk_group": 1,
        "norm_topk_prob": False, "routed_scaling_factor": 1.0, "rms_norm_eps": 1e-6, "rope_theta": 1e4, "attention_bias": False,
        "max_position_embeddings": 4096,
    },
}


def attention_tensors(c, p):
    h, heads = c["hidden_size"], c["num_attention_heads"]
    if c["model_type"] == "deepseek_v2":
        rope, nope, v, rank = (c[n] for n in ("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "kv_lora_rank"))
        return [(f"{p}.q_proj.weight", [heads * (nope + rope), h]), (f"{p}.kv_a_proj_with_mqa.weight", [rank + rope, h]),
                (f"{p}.kv_a_layernorm.weight", [rank]), (f"{p}.kv_b_proj.weight", [heads * (nope + v), rank]), (f"{p}.o_proj.weight", [h, heads * v])]
    q, kv = heads * c["head_dim"], c["num_key_value_heads"] * c["head_dim"]
    out = [(f"{p}.{n}_proj.weight", s) for n, s in (("q", [q, h]), ("k", [kv, h]), ("v", [kv, h]), ("o", [h, q]))]
    return out + [(f"{p}.{n}_norm.weight", [c["head_dim"]]) for n in "qk" if c["model_type"] == "qwen3_moe"]


def mlp_tensors(c, p, width, names=("gate_proj", "down_proj", "up_proj")):
    h = c["hidden_size"]
    return [(f"{p}.{name}.weight", [h, width] if i == 1 else [width, h]) for i, name in enumerate(names)]


def layer_tensors(c, layer):
    """(name, shape) in the order of names, as published checkpoints are sorted: an expert's three matrices are neighbours."""
    p, h = f"model.layers.{layer}", c["hidden_size"]
    out = [(f"{p}.input_layernorm.weight", [h]), (f"{p}.post_attention_layernorm.weight", [h]), *attention_tensors(c, f"{p}.self_attn")]
    if layer < c.get("first_k_dense_replace", 0):
        return sorted(out + mlp_tensors(c, f"{p}.mlp", c["intermediate_size"]))
    if c["model_type"] == "mixtral":
        block, w, names, n = "block_sparse_moe", c["intermediate_size"], ("w1", "w2", "w3"), c["num_local_experts"]
    else:
        block, w, names = "mlp", c["moe_intermediate_size"], ("gate_proj", "down_proj", "up_proj")
        n = c.get("num_experts") or c["n_routed_experts"]
    out.append((f"{p}.{block}.gate.weight", [n, h]))
    for e in range(n):
        out += mlp_tensors(c, f"{p}.{block}.experts.{e}", w, names)
    if "n_shared_experts" in c:
        out += mlp_tensors(c, f"{p}.{block}.shared_experts", c["n_shared_experts"] * w)
    return sorted(out)


def tensors(c):
    yield "model.embed_tokens.weight", [c["vocab_size"], c["hidden_size"]]
    for layer in range(c["num_hidden_layers"]):
        yield from layer_tensors(c, layer)
    yield "model.norm.weight", [c["hidden_size"]]
    yield "lm_head.weight", [c["vocab_size"], c["hidden_size"]]


def random_bf16(rng, count):
    """Random sign and mantissa, one exponent: values of 0.016 to 0.031, both signs. Bytes, little-endian."""
    out = bytearray(2 * count)
    out[0::2] = rng.randbytes(count).translate(bytes(i | 0x80 for i in range(256)))
    out[1::2] = rng.randbytes(count).translate(bytes(0x3C | (i & 0x80) for i in range(256)))
    return out


def write_shard(path, items, rng):
    header, at = {}, 0
    for name, shape in items:
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    pool = memoryview(random_bf16(rng, 1 << 24))  # weights are windows of it that begin anywhere: random enough, written at the disk's rate
    window = len(pool) // 2
    with open(path, "wb", buffering=0) as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for name, shape in items:
            size = 2 * math.prod(shape)
            if "norm" in name:
                f.write(b"\x80\x3f" * (size // 2))
                continue
            for done in range(0, size, window):
                begin = 2 * rng.randrange(window // 2)
                f.write(pool[begin:begin + min(window, size - done)])


def shards_of(items, limit):
    shards, size = [[]], 0
    for item in items:
        nbytes = 2 * math.prod(item[1])
        if shards[-1] and size + nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(item)
        size += nbytes
    return shards


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="qwen3-30b-a3b")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocab", type=int, default=32000)
    parser.add_argument("--shard-bytes", type=int, default=4 << 30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokenizer", type=pathlib.Path, help="a directory whose tokenizer files are copied")
    args = parser.parse_args()
    config = {**SHAPES[args.shape], "num_hidden_layers": args.layers, "vocab_size": args.vocab, "torch_dtype": "bfloat16", "hidden_act": "silu",
              "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2}
    args.dir.mkdir(parents=True, exist_ok=True)
    (args.dir / "config.json").write_text(json.dumps(config, indent=1))
    for file in args.tokenizer.glob("*token*") if args.tokenizer else []:
        shutil.copy(file, args.dir)
    shards = shards_of(tensors(config), args.shard_bytes)
    weight_map, rng = {}, random.Random(args.seed)
    for i, items in enumerate(shards):
        name = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        write_shard(args.dir / name, items, rng)
        weight_map.update({tensor: name for tensor, _ in items})
    (args.dir / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    print(f"{args.dir}: {args.shape}, {args.layers} layers, {sum(f.stat().st_size for f in args.dir.iterdir()) / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
