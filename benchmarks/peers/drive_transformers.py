"""Runs cases in transformers, static batches: drive_transformers.py OPTIONS. Jobs are JSON lines on stdin,
measurements JSON lines on stdout, an empty one first when all is loaded and warm."""
import json
import os
import random
import sys
import time

import cases

out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what libraries print goes to the log

import torch  # noqa: E402
import transformers  # noqa: E402

PREFILL_BATCH = 4096  # tokens; what vLLM and moegen take in one pass
RAGGED_BATCH = 64  # sequences


class Steps(list):
    """[seconds since the start, prompt tokens, generated tokens] of each step."""

    def __init__(self, seconds):
        super().__init__()
        self._begin, self._seconds = time.perf_counter(), seconds

    def add(self, prompt, generated):
        """False: the time is up."""
        self.append([time.perf_counter() - self._begin, prompt, generated])
        return self[-1][0] < self._seconds


def prefill(model, case, seed, seconds):
    requests = cases.requests(case, seed)
    batch = max(1, PREFILL_BATCH // case.prompt)
    steps = Steps(seconds)
    for i in range(0, len(requests), batch):
        ids = torch.tensor([ids for ids, _ in requests[i:i + batch]])
        model(input_ids=ids, use_cache=True, logits_to_keep=1).logits.argmax(-1)
        if not steps.add(ids.numel(), len(ids)):
            break
    return {"steps": steps}


def decode(model, case, _, seconds):
    """The cache holds random keys and values instead of those of a prompt: no prefill is waited for, the work of a step is the same."""
    c = model.config
    cache = transformers.DynamicCache(config=c)
    for layer in range(c.num_hidden_layers):
        k, v = (torch.randn(case.sequences, c.num_key_value_heads, case.prompt, c.head_dim, dtype=torch.bfloat16) for _ in "kv")
        cache.update(k, v, layer)
    ids = torch.randint(1000, 31000, (case.sequences, 1))
    steps = Steps(seconds)
    for _ in range(case.generate):
        ids = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1:].argmax(-1)
        if not steps.add(0, case.sequences):
            break
    return {"steps": steps, "note": "decode over a cache of random keys and values"}


def ragged(model, case, seed, seconds):
    """Batches of answers of like length, in random order until the time is up."""
    requests = sorted(cases.requests(case, seed), key=lambda r: (r[1], len(r[0])))
    batches = [requests[i:i + RAGGED_BATCH] for i in range(0, len(requests), RAGGED_BATCH)]
    random.Random(seed).shuffle(batches)
    steps = Steps(seconds)
    for n, batch in enumerate(batches):
        longest, most = max(len(ids) for ids, _ in batch), max(g for _, g in batch)
        ids = torch.tensor([[0] * (longest - len(ids)) + ids for ids, _ in batch])
        mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids, _ in batch])
        model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=most, min_new_tokens=most, do_sample=False, eos_token_id=None, pad_token_id=0)
        if not steps.add(sum(len(ids) for ids, _ in batch), sum(g for _, g in batch)):
            return {"steps": steps, "note": f"{(n + 1) * RAGGED_BATCH} of the requests, batches drawn at random"}
    return {"steps": steps}


@torch.inference_mode()
def main():
    options = json.loads(sys.argv[1])
    torch.set_num_threads(options.pop("threads"))
    model = transformers.AutoModelForCausalLM.from_pretrained(options.pop("model"), dtype=torch.bfloat16, **options).eval()
    model.generation_config.eos_token_id = None
    prefill(model, cases.parse("8x128+1"), "warm-up", 60)
    print("{}", file=out, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        case = cases.parse(job["case"])
        result = {"prefill": prefill, "decode": decode, "ragged": ragged}[case.kind](model, case, job["seed"], job["seconds"])
        print(json.dumps(result), file=out, flush=True)


if __name__ == "__main__":
    main()
