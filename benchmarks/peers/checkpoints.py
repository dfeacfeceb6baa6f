#!/usr/bin/env python3
"""Makes the checkpoints that all engines run: checkpoints.py [qwen3] [mixtral], in $PEERS_DIR/checkpoints (default /var/tmp/peers).

qwen3: four layers of Qwen3-30B-A3B, 5.2 GB; mixtral: two layers of Mixtral-8x7B, 6.3 GB. Random weights, vocabulary 32,000. Beside each,
the same weights as GGUF for llama.cpp, in bfloat16 and, by its own llama-quantize, in Q8_0. `install llama` comes first.
"""
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
PEERS = pathlib.Path(os.environ.get("PEERS_DIR", "/var/tmp/peers"))
MODELS = {"qwen3": ("qwen3-30b-a3b", 4), "mixtral": ("mixtral-8x7b", 2)}


def directory(model):
    return PEERS / "checkpoints" / model


def gguf(model, dtype):
    return PEERS / "checkpoints" / f"{model}-{dtype}.gguf"


def make(path, *command):
    """Made under another name first, so that what is there is whole."""
    if path.exists():
        return
    part = path.with_name(f"part-{path.name}")
    subprocess.run([str(c).replace("OUT", str(part)) for c in command], check=True, stdout=subprocess.DEVNULL)
    part.rename(path)
    print(path)


def make_all(model):
    shape, layers = MODELS[model]
    (PEERS / "checkpoints").mkdir(parents=True, exist_ok=True)
    make(directory(model), sys.executable, HERE.parents[1] / "tools" / "make_checkpoint.py", "OUT", "--shape", shape, "--layers", layers)
    make(gguf(model, "bf16"), PEERS / "venv-gguf/bin/python", HERE / "to_gguf.py", directory(model), "OUT")
    make(gguf(model, "q8_0"), PEERS / "llama/bin/llama-quantize", gguf(model, "bf16"), "OUT", "Q8_0", os.cpu_count())


if __name__ == "__main__":
    for name in sys.argv[1:] or MODELS:
        make_all(name)
