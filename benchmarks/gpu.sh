#!/bin/sh
# What a GPU does, from generated weights, in ten minutes or so: the link's rates, then whole prefill and decode of models that are larger than the
# device memory they may take, each beside the roofs of the link and of products. `benchmarks/gpu.sh [PROGRAM]`; MEMORY: of the device [24GiB]; DEVICE [cuda].
# TINY=1 takes the same steps with models of the tests, in a minute: `DEVICE=emulated TINY=1 benchmarks/gpu.sh build/release/moegen` runs anywhere.
# The program is built with preset cuda. Host memory has to hold the weights: layers are left out where it does not.
set -eu
cd "$(dirname "$0")/.."
program=${1:-build/cuda/moegen}
device=${DEVICE:-cuda}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$program" --version

# A config with as many layers as half of the host's memory holds: the other half is for KV.
model() { # NAME CONFIG BYTES_OF_A_LAYER
  mkdir -p "$work/$1"
  python3 - "$2" "$3" "$work/$1/config.json" << 'PY'
import json, sys
config = json.load(open(sys.argv[1]))
free = next(int(l.split()[1]) * 1024 for l in open("/proc/meminfo") if l.startswith("MemAvailable"))
config["num_hidden_layers"] = max(2, min(config["num_hidden_layers"], int(free * 0.5 / float(sys.argv[2]))))
json.dump(config, open(sys.argv[3], "w"))
print(sys.argv[3], config["num_hidden_layers"], "layers")
PY
}

if [ -n "${TINY:-}" ]; then
  models="mixtral qwen3_moe deepseek_v2_lite"
  prompts=8
  sizes="--sequences 4 --generate 8 --samples 1 --max-model-len 64 --max-pass-tokens 32 --device-memory ${MEMORY:-700KiB} --host-memory 1GiB"
  copies="--memory 1MiB --samples 1"
  for name in $models; do model "$name" "tests/data/models/$name/config.json" 1; done
else
  configs=benchmarks/simulation/configs
  models="mixtral-8x7b qwen3-30b-a3b deepseek-v2-lite"
  prompts="128 512"
  sizes="--sequences 1024 --generate 16 --max-model-len 2048 --device-memory ${MEMORY:-24GiB}"
  copies=
  model mixtral-8x7b $configs/mixtral-8x7b.json 2.9e9
  model qwen3-30b-a3b $configs/qwen3-30b-a3b.json 1.25e9
  model deepseek-v2-lite $configs/deepseek-v2-lite.json 1.2e9
fi

# Rates of the link, of an expert's products over its tokens, of attention; what runs below are predicted from.
# shellcheck disable=SC2086
for name in $models; do
  "$program" bench machine -m "$work/$name" --device "$device" --file-size 64MiB $copies
  "$program" bench machine -m "$work/$name" --device "$device" --file-size 64MiB $copies --json > "$work/$name/machine.json"
done
# shellcheck disable=SC2086
for direction in h2d d2h both; do "$program" bench copy --direction "$direction" --device "$device" $copies; done
for name in $models; do
  for prompt in $prompts; do
    echo "$name, prompts of $prompt"
    # shellcheck disable=SC2086
    "$program" bench throughput -m "$work/$name" --machine "$work/$name/machine.json" --load-format dummy --skip-tokenizer-init --device "$device" --prompt "$prompt" $sizes
  done
done
