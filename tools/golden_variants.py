#!/usr/bin/env python3
"""Draws models of every golden family with other dimensions, switches, dtypes and spellings of config.json, and makes their golden outputs.

    PYTHON tools/golden_variants.py --out DIR [--seed 1] [--count 5] [--only family,..]     (PYTHON: torch, transformers, see ../shared/tools)
    MOEGEN_CHECK_DATA=DIR ../shared/tools/checks/golden                                     (DIR/models is what was made)

A checkpoint has three prompts (1, 17, 130 tokens) of 26 generated tokens each. What exists is kept, so that a run can go on. A draw for which no
prompt is stable in bfloat16 is passed over.
"""
import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared" / "tools"))
import torch
import transformers
from transformers import AutoConfig

import golden_formats
import golden_models
import make_goldens
from variant_draws import DRAWS, draw

make_goldens.BATCH, make_goldens.ROUNDS, make_goldens.STEPS, make_goldens.PROMPT_LENGTHS = 24, 4, 26, (1, 17, 130)

# Grouped products in torch want rows of whole 16 bytes.
transformers.PreTrainedModel.get_correct_experts_implementation = lambda self, requested: "eager"


# ---------------------------------------------------------------- how make_goldens is told

def full_config(variant):
    config = golden_models_full_config(variant)
    for part in (config, config.get("text_config", config)):
        for field in ("torch_dtype", "dtype"):
            if field in part:
                part[field] = variant["dtype"]
    if variant["spelling"] == 4:
        return config
    with tempfile.TemporaryDirectory() as scratch:
        make_goldens.write_json(Path(scratch) / "config.json", config)
        return json.loads(AutoConfig.from_pretrained(scratch).to_json_string())


def hub_tensors(model, variant, scratch):
    tensors = model.state_dict() if variant.get("fused_experts") else {}
    if not tensors:
        model.save_pretrained(scratch)
        for file in sorted(scratch.glob("*.safetensors")):
            tensors.update(make_goldens.load_file(file))
    wide, dtype = make_goldens.KEEP_FLOAT32.get(variant["family"], ()), getattr(torch, variant["dtype"])
    return {name: tensors[name].to(torch.float32 if name.endswith(wide) else dtype) for name in sorted(tensors)}


class Recipe(make_goldens.Recipe):
    """Also for tokens that go to every expert, where nothing is decided."""

    def decision_gap(self, choice):
        top_k = getattr(self.config, "top_k_experts", None) or self.config.num_experts_per_tok
        top_k = top_k[0] if isinstance(top_k, list) else top_k
        return torch.full((len(choice),), math.inf) if top_k == choice.shape[-1] else super().decision_gap(choice)


def quantise_tensors(tensors, method):
    """Also the experts of Mixtral's names."""
    if method == "fp8":
        tensors = {k.replace(".w1.", ".w1_proj.").replace(".w2.", ".w2_proj.").replace(".w3.", ".w3_proj."): v for k, v in tensors.items()}
    return {k.replace("w1_proj", "w1").replace("w2_proj", "w2").replace("w3_proj", "w3"): v
            for k, v in golden_quantise_tensors(tensors, method).items()}


golden_models_full_config, golden_models.full_config = golden_models.full_config, full_config
golden_quantise_tensors, golden_formats.quantise_tensors = golden_formats.quantise_tensors, quantise_tensors
make_goldens.hub_tensors, make_goldens.Recipe = hub_tensors, Recipe


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--only", help="comma-separated families")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for index in range(args.count):
        for name in args.only.split(",") if args.only else DRAWS:
            folder = f"{name}-{args.seed}-{index}"
            if (args.out / "models" / folder / "golden.json").exists():
                continue
            try:
                make_goldens.make(args.out / "models", folder, draw(name, args.seed, index), args.seed)
            except Exception as problem:
                print(f"{folder}: passed over: {type(problem).__name__}: {problem}", flush=True)


if __name__ == "__main__":
    main()
