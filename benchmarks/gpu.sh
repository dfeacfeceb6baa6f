#!/bin/sh
# What a GPU does, from generated weights, in ten minutes or so: the link's rates, then whole prefill and decode of models that are larger than the device memory they
# may take, each with the time its weights need on the link. `benchmarks/gpu.sh [PROGRAM]`; MEMORY: of the device [24GiB].
# The program is built with preset cuda. Host memory has to hold the weights: layers are left out where it does not.
set -eu
cd "$(dirname "$0")/.."
program=${1:-build/cuda/moegen}
memory=${MEMORY:-24GiB}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$program" --version
for direction in h2d d2h both; do "$program" bench copy --direction "$direction" --device cuda; done

# A config with as many layers as three quarters of the host's memory hold.
model() { # NAME CONFIG BYTES_OF_A_LAYER
  mkdir -p "$work/$1"
  python3 - "$2" "$3" "$work/$1/config.json" << 'PY'
import json, sys
config = json.load(open(sys.argv[1]))
free = next(int(l.split()[1]) * 1024 for l in open("/proc/meminfo") if l.startswith("MemAvailable"))
config["num_hidden_layers"] = max(2, min(config["num_hidden_layers"], int(free * 0.75 / float(sys.argv[2]))))
json.dump(config, open(sys.argv[3], "w"))
print(sys.argv[3], config["num_hidden_layers"], "layers")
PY
}
configs=benchmarks/simulation/configs
model mixtral-8x7b $configs/mixtral-8x7b.json 2.9e9
model qwen3-30b-a3b $configs/qwen3-30b-a3b.json 1.25e9
for name in mixtral-8x7b qwen3-30b-a3b; do
  for prompt in 128 512; do
    "$program" bench throughput -m "$work/$name" --load-format dummy --skip-tokenizer-init --device cuda --device-memory "$memory" --max-model-len 2048 \
      --sequences 1024 --prompt "$prompt" --generate 16 || echo "$name, prompts of $prompt: failed"
  done
done
