#!/usr/bin/env python3
"""Tiny checkpoints in int4 and int8 (compressed-tensors, GPTQ, AWQ) and FP8 with a scale a row, with golden outputs of transformers.

    python tools/make_format_goldens.py --out tests/data/models      (needs what ../shared/tools/make_goldens.py needs)

Random weights are quantised here, by the formats' descriptions, and expanded again to float32; transformers runs on the expansion. Neither step
shares code with moegen or with the quantised loaders of transformers.
"""
import argparse
import pathlib
import re
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "shared" / "tools"))
import golden_models  # noqa: E402
import make_goldens  # noqa: E402

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # place i of a word has output AWQ_ORDER[i] of eight
ROUTER = r"\.(gate|router)$|_gate$"
LINEAR = r"\.(self_attn|linear_attn|mlp|block_sparse_moe)\..*(_proj|\.w[123]|in_proj_\w+)$"


def pack(codes, bits):
    """[..., n] codes -> int32 [..., n * bits / 32], the first in the lowest bits."""
    words = codes.long().unflatten(-1, (-1, 32 // bits)) << (torch.arange(32 // bits) * bits)
    return words.sum(-1).to(torch.int64).where(words.sum(-1) < 2 ** 31, words.sum(-1) - 2 ** 32).to(torch.int32)


def unpack(words, bits):
    return ((words.long()[..., None] >> (torch.arange(32 // bits) * bits)) & (2 ** bits - 1)).flatten(-2)


def quantise(weight, bits, group, symmetric, dtype):
    """[out, in] -> codes [out, in] in [0, 2^bits), scales [out, groups] and zero points [out, groups]; value = (code - zero) * scale."""
    groups = weight.float().unflatten(1, (-1, group))
    top = 2 ** bits - 1
    if symmetric:
        scale = (groups.abs().amax(-1) / (top / 2)).clamp(min=1e-6).to(dtype)
        zero = torch.full_like(scale, 2 ** (bits - 1), dtype=torch.float32)
    else:
        low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
        scale = ((high - low) / top).clamp(min=1e-6).to(dtype)
        zero = (-low / scale.float()).round().clamp(0, top)
    codes = (groups / scale.float()[..., None] + zero[..., None]).round().clamp(0, top)
    return codes.flatten(1).to(torch.int32), scale, zero.to(torch.int32)


def expand(codes, scale, zero):
    group = codes.shape[1] // scale.shape[1]
    return (codes - zero.repeat_interleave(group, 1)).float() * scale.float().repeat_interleave(group, 1)


class Packed:
    """compressed-tensors, pack-quantized."""

    def __init__(self, bits, group, symmetric):
        self.bits, self.group, self.symmetric = bits, group, symmetric

    def write(self, name, w):
        codes, scale, zero = quantise(w, self.bits, self.group or w.shape[1], self.symmetric, torch.bfloat16)
        out = {name + ".weight_packed": pack(codes, self.bits), name + ".weight_scale": scale,
               name + ".weight_shape": torch.tensor(w.shape)}
        if not self.symmetric:
            rows = -(-w.shape[0] * self.bits // 32) * 32 // self.bits
            padded = torch.zeros(rows, zero.shape[1], dtype=torch.int32)
            padded[:w.shape[0]] = zero
            out[name + ".weight_zero_point"] = pack(padded.T, self.bits).T.contiguous()
        return out

    def read(self, name, t):
        codes, scale = unpack(t[name + ".weight_packed"], self.bits), t[name + ".weight_scale"]
        zero = torch.full(scale.shape, 2 ** (self.bits - 1))
        if not self.symmetric:
            zero = unpack(t[name + ".weight_zero_point"].T, self.bits).T[:codes.shape[0]]
        return expand(codes, scale, zero)

    def config(self):
        weights = {"num_bits": self.bits, "type": "int", "symmetric": self.symmetric, "dynamic": False, "actorder": None,
                   "strategy": "group" if self.group else "channel", "group_size": self.group}
        return compressed("pack-quantized", weights, None)


class Bytes:
    """compressed-tensors, int-quantized: W8A8, of which the activations' part does not matter here."""

    def write(self, name, w):
        codes, scale, _ = quantise(w, 8, w.shape[1], True, torch.bfloat16)
        return {name + ".weight": (codes - 128).to(torch.int8), name + ".weight_scale": scale}

    def read(self, name, t):
        return t[name + ".weight"].float() * t[name + ".weight_scale"].float()

    def config(self):
        weights = {"num_bits": 8, "type": "int", "symmetric": True, "dynamic": False, "strategy": "channel"}
        return compressed("int-quantized", weights, {"num_bits": 8, "type": "int", "symmetric": True, "dynamic": True, "strategy": "token"})


class Float8:
    """compressed-tensors, float-quantized: a scale for each row."""

    def write(self, name, w):
        scale = (w.float().abs().amax(1, keepdim=True) / 448).clamp(min=1e-8).to(torch.bfloat16)
        return {name + ".weight": (w.float() / scale.float()).clamp(-448, 448).to(torch.float8_e4m3fn), name + ".weight_scale": scale}

    def read(self, name, t):
        return t[name + ".weight"].float() * t[name + ".weight_scale"].float()

    def config(self):
        weights = {"num_bits": 8, "type": "float", "symmetric": True, "dynamic": False, "strategy": "channel"}
        return compressed("float-quantized", weights, {"num_bits": 8, "type": "float", "symmetric": True, "dynamic": True, "strategy": "token"})


class Gptq:
    def __init__(self, bits, group, symmetric, format):
        self.bits, self.group, self.symmetric, self.format = bits, group, symmetric, format

    def write(self, name, w):
        group = self.group if self.group > 0 else w.shape[1]
        codes, scale, zero = quantise(w, self.bits, group, self.symmetric, torch.float16)
        stored = zero if self.format == "gptq_v2" else (zero - 1) % 2 ** self.bits
        return {name + ".qweight": pack(codes, self.bits).T.contiguous(), name + ".qzeros": pack(stored.T, self.bits),
                name + ".scales": scale.T.contiguous(), name + ".g_idx": (torch.arange(w.shape[1]) // group).to(torch.int32)}

    def read(self, name, t):
        codes, zero = unpack(t[name + ".qweight"].T, self.bits), unpack(t[name + ".qzeros"], self.bits).T
        if self.format != "gptq_v2":
            zero = (zero + 1) % 2 ** self.bits
        return expand(codes, t[name + ".scales"].T, zero)

    def config(self):
        return {"quant_method": "gptq", "bits": self.bits, "group_size": self.group, "desc_act": False, "sym": self.symmetric, "lm_head": False,
                "checkpoint_format": self.format, "pack_dtype": "int32", "damp_percent": 0.01, "true_sequential": True}


class Awq:
    def __init__(self, group):
        self.group = group

    @staticmethod
    def order(values):
        return values.unflatten(-1, (-1, 8))[..., AWQ_ORDER].flatten(-2)

    @staticmethod
    def back(values):
        return values.unflatten(-1, (-1, 8))[..., [AWQ_ORDER.index(i) for i in range(8)]].flatten(-2)

    def write(self, name, w):
        codes, scale, zero = quantise(w, 4, self.group, False, torch.float16)
        return {name + ".qweight": pack(self.order(codes.T), 4), name + ".qzeros": pack(self.order(zero.T), 4),
                name + ".scales": scale.T.contiguous()}

    def read(self, name, t):
        return expand(self.back(unpack(t[name + ".qweight"], 4)).T, t[name + ".scales"].T, self.back(unpack(t[name + ".qzeros"], 4)).T)

    def config(self):
        return {"quant_method": "awq", "bits": 4, "group_size": self.group, "zero_point": True, "version": "gemm",
                "modules_to_not_convert": ["mlp.gate", "shared_expert_gate"]}


def compressed(format, weights, activations):
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations, "output_activations": None}
    return {"quant_method": "compressed-tensors", "format": format, "quantization_status": "compressed", "kv_cache_scheme": None,
            "config_groups": {"group_0": group}, "ignore": ["lm_head", "re:.*gate$", "re:.*_gate$", "re:.*kv_a_proj.*"]}


def quantise_tensors(tensors, form):
    """Linear layers become `form`, experts that lie in one tensor each its own."""
    out = {}
    for name, tensor in tensors.items():
        fused = re.fullmatch(r"(.*\.experts)\.(gate_up|down)_proj", name)
        if fused:
            for e, matrix in enumerate(tensor):  # [out, in] of an expert
                parts = {"gate_proj": matrix[:matrix.shape[0] // 2], "up_proj": matrix[matrix.shape[0] // 2:]}
                for part, w in (parts if fused[2] == "gate_up" else {"down_proj": matrix}).items():
                    out.update(form.write(f"{fused[1]}.{e}.{part}", w))
            continue
        module = name.removesuffix(".weight")
        plain = module == name or re.search(ROUTER, module) or not re.search(LINEAR, module) or "kv_a_proj" in module
        if plain or tensor.ndim != 2 or tensor.shape[0] % 8 or tensor.shape[1] % 32:
            out[name] = tensor
        else:
            out.update(form.write(module, tensor))
    return out


def dequantise_tensors(tensors, form, fused):
    modules = {name.rsplit(".", 1)[0] for name in tensors if name.endswith((".weight_scale", ".scales"))}
    out = {name: t.float() for name, t in tensors.items() if name.rsplit(".", 1)[0] not in modules or name.endswith(".bias")}
    out.update({module + ".weight": form.read(module, tensors).contiguous() for module in modules})
    if fused:
        for base in sorted({n.split(".experts.")[0] + ".experts" for n in out if ".experts." in n}):
            count = 1 + max(int(n[len(base) + 1:].split(".")[0]) for n in out if n.startswith(base + "."))
            take = lambda e, part: out.pop(f"{base}.{e}.{part}.weight")  # noqa: E731
            pairs = [torch.cat((take(e, "gate_proj"), take(e, "up_proj"))) for e in range(count)]
            out[base + ".down_proj"] = torch.stack([take(e, "down_proj") for e in range(count)])
            out[base + ".gate_up_proj"] = torch.stack(pairs)
    return out


SMALL = {"vocab_size": 256, "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
VARIANTS = {
    "deepseek_v3_int4": ("deepseek_v3_fp8", Packed(4, 32, True), {"moe_intermediate_size": 96},
                         "int4 as compressed-tensors packs it, groups of 32: attention, dense MLP, shared and routed experts"),
    "qwen3_moe_int4_zeros": ("qwen3_moe", Packed(4, 32, False), {**SMALL, "intermediate_size": 160, "moe_intermediate_size": 64},
                             "int4 as compressed-tensors packs it, groups of 32 with zero points"),
    "mixtral_int8": ("mixtral", Bytes(), {**SMALL, "intermediate_size": 96}, "int8 of compressed-tensors, a scale for each row"),
    "glm4_moe_fp8_rows": ("glm4_moe", Float8(), {**SMALL, "intermediate_size": 192, "head_dim": 32},
                          "FP8 of compressed-tensors, a scale for each row"),
    "qwen3_moe_gptq": ("qwen3_moe", Gptq(4, 32, False, "gptq"), {**SMALL, "intermediate_size": 160, "moe_intermediate_size": 64},
                       "GPTQ int4, groups of 32, asymmetric, zero points less one"),
    "qwen3_5_moe_gptq_int8": ("qwen3_5_moe", Gptq(8, -1, True, "gptq_v2"), {"hidden_size": 96, "shared_expert_intermediate_size": 64},
                              "GPTQ v2 int8, whole rows, an expert a tensor where the plain model has all in one"),
    "qwen2_moe_awq": ("qwen2_moe", Awq(32), {**SMALL, "intermediate_size": 192, "moe_intermediate_size": 64,
                                             "shared_expert_intermediate_size": 96}, "AWQ int4, groups of 32"),
}


def variant_of(base, form, changes, exercises):
    variant = {**golden_models.PUBLIC[base], "shards": 1, "quant": form, "exercises": exercises}
    config = dict(variant["config"])
    if "text_config" in config:
        config["text_config"] = {**config["text_config"], **changes}
        config["vision_config"] = {**config["vision_config"], "out_hidden_size": config["text_config"]["hidden_size"]}
    else:
        config.update(changes)
    if variant["family"] == "deepseek_v3":
        config["num_nextn_predict_layers"] = 0
    return {**variant, "mtp": False, "config": {**config, "quantization_config": form.config()}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--only", help="comma-separated names")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.only.split(",") if args.only else VARIANTS:
        base, form, changes, exercises = VARIANTS[name]
        variant = variant_of(base, form, changes, exercises)
        make_goldens.formats.quantise_tensors = lambda tensors, _: quantise_tensors(tensors, form)
        make_goldens.formats.dequantise_tensors = lambda tensors: dequantise_tensors(tensors, form, variant.get("fused_experts"))
        make_goldens.make(args.out, name, variant, 1)


if __name__ == "__main__":
    main()
