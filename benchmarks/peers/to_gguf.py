"""Writes a checkpoint of tools/make_checkpoint.py as one GGUF file in bfloat16, for llama.cpp: to_gguf.py DIR OUT.gguf

As convert_hf_to_gguf.py does it: experts of a layer stacked, norms and routers in float32, Mixtral's q and k rows in the order of its rope.
The vocabulary is invented, since prompts are token ids. Needs the packages gguf, numpy and safetensors' file format only.
"""
import json
import pathlib
import sys

import gguf
import numpy as np

EXPERTS = {"mixtral": ("block_sparse_moe", {"gate": "w1", "down": "w2", "up": "w3"}),
           "qwen3_moe": ("mlp", {"gate": "gate_proj", "down": "down_proj", "up": "up_proj"})}


class Checkpoint:
    """bfloat16 tensors by name, as uint16, mapped."""

    def __init__(self, path):
        self.config = json.loads((path / "config.json").read_text())
        self._found = {}
        for file in sorted(path.glob("*.safetensors")):
            with open(file, "rb") as f:
                size = int.from_bytes(f.read(8), "little")
                header = json.loads(f.read(size))
            data = np.memmap(file, np.uint8, "r", 8 + size)
            self._found.update({n: (data, t) for n, t in header.items() if n != "__metadata__"})

    def __call__(self, name):
        data, t = self._found[name]
        begin, end = t["data_offsets"]
        return data[begin:end].view(np.uint16).reshape(t["shape"])


def to_float(x):
    return (x.astype(np.uint32) << 16).view(np.float32)


def for_rope(x, heads):
    """Halves of a head interleaved."""
    return x.reshape(heads, 2, -1, x.shape[1]).swapaxes(1, 2).reshape(x.shape)


def layer(ck, i):
    """(name, shape, is float32, function that makes it) of each tensor."""
    c, p = ck.config, f"model.layers.{i}"
    mixtral = c["model_type"] == "mixtral"
    block, names = EXPERTS[c["model_type"]]
    n = c["num_local_experts"] if mixtral else c["num_experts"]

    def one(name, source, f32=False, heads=0):
        x = ck(f"{p}.{source}.weight")
        return f"blk.{i}.{name}.weight", x.shape, f32, lambda: to_float(x) if f32 else for_rope(x, heads) if heads else x

    yield one("attn_norm", "input_layernorm", True)
    yield one("attn_q", "self_attn.q_proj", heads=c["num_attention_heads"] if mixtral else 0)
    yield one("attn_k", "self_attn.k_proj", heads=c["num_key_value_heads"] if mixtral else 0)
    yield one("attn_v", "self_attn.v_proj")
    yield one("attn_output", "self_attn.o_proj")
    if not mixtral:
        yield one("attn_q_norm", "self_attn.q_norm", True)
        yield one("attn_k_norm", "self_attn.k_norm", True)
    yield one("ffn_norm", "post_attention_layernorm", True)
    yield one("ffn_gate_inp", f"{block}.gate", True)
    for name, source in names.items():
        parts = [ck(f"{p}.{block}.experts.{e}.{source}.weight") for e in range(n)]
        yield f"blk.{i}.ffn_{name}_exps.weight", (n, *parts[0].shape), False, lambda parts=parts: np.stack(parts)


def tensors(ck):
    for name, source, f32 in (("token_embd", "model.embed_tokens", False), ("output_norm", "model.norm", True), ("output", "lm_head", False)):
        x = ck(f"{source}.weight")
        yield f"{name}.weight", x.shape, f32, lambda x=x, f32=f32: to_float(x) if f32 else x
    for i in range(ck.config["num_hidden_layers"]):
        yield from layer(ck, i)


def add_metadata(w, c):
    w.add_name(f"{c['model_type']}, random weights")
    w.add_block_count(c["num_hidden_layers"])
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv(c["num_key_value_heads"])
    w.add_key_length(c["head_dim"])
    w.add_value_length(c["head_dim"])
    w.add_rope_dimension_count(c["head_dim"])
    w.add_rope_freq_base(c["rope_theta"])
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_expert_count(c.get("num_experts") or c["num_local_experts"])
    w.add_expert_used_count(c["num_experts_per_tok"])
    if "moe_intermediate_size" in c:
        w.add_expert_feed_forward_length(c["moe_intermediate_size"])
    w.add_vocab_size(c["vocab_size"])
    w.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)


def add_vocabulary(w, size):
    special = [b"<unk>", b"<s>", b"</s>"]
    tokens = special + [b"<0x%02X>" % i for i in range(256)]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL] + [gguf.TokenType.BYTE] * 256
    kinds += [gguf.TokenType.NORMAL] * (size - len(tokens))
    tokens += [b"t%d" % i for i in range(len(tokens), size)]
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores([0.0] * size)
    w.add_token_types(kinds)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)


def main():
    source, out = pathlib.Path(sys.argv[1]), sys.argv[2]
    ck = Checkpoint(source)
    w = gguf.GGUFWriter(out, {"mixtral": "llama", "qwen3_moe": "qwen3moe"}[ck.config["model_type"]])
    add_metadata(w, ck.config)
    add_vocabulary(w, ck.config["vocab_size"])
    plan = list(tensors(ck))
    for name, shape, f32, _ in plan:
        count = int(np.prod(shape))
        if f32:
            w.add_tensor_info(name, shape, np.dtype(np.float32), 4 * count)
        else:
            w.add_tensor_info(name, shape, np.dtype(np.uint16), 2 * count, gguf.GGMLQuantizationType.BF16)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    for _, _, _, make in plan:
        w.write_tensor_data(np.ascontiguousarray(make()))
    w.close()


if __name__ == "__main__":
    main()
