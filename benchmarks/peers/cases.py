"""What is run: the same token ids for every engine. A case is its name: SEQUENCESxPROMPT+GENERATE, as 64x128+64, or ragged:COUNT or gsm8k:COUNT.

GENERATE 1 measures prefill, more measure decode with all sequences in flight, the last two a whole job. Standard library only.
"""
import csv
import dataclasses
import pathlib
import random

WORKLOADS = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data" / "workloads"
JOBS = {"ragged": "lengths_chatarena.csv", "gsm8k": "lengths_gsm8k.csv"}
MAX_TOKENS = 1280  # prompt and answer, of any case
JOB_SCALE = 4  # lengths are divided by it: 64 in and 55 out in the mean, 1,024 and 128 at most; 128 and 32, 200 and 64


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    sequences: int
    prompt: int = 0  # 0: ragged
    generate: int = 0

    @property
    def kind(self):
        return "ragged" if self.prompt == 0 else "prefill" if self.generate == 1 else "decode"


def parse(name):
    if ":" in name:
        return Case(name, int(name.partition(":")[2]))
    sequences, _, rest = name.partition("x")
    prompt, _, generate = rest.partition("+")
    return Case(name, int(sequences), int(prompt), int(generate))


def lengths(case):
    """(prompt tokens, generated tokens) of each request."""
    if case.kind != "ragged":
        return [(case.prompt, case.generate)] * case.sequences
    with open(WORKLOADS / JOBS[case.name.partition(":")[0]], encoding="utf-8") as f:
        rows = [(int(r["prompt_tokens"]), int(r["output_tokens"])) for r in csv.DictReader(f)]
    rows = [(max(1, p // JOB_SCALE), max(1, g // JOB_SCALE)) for p, g in rows]
    return [rows[i % len(rows)] for i in range(case.sequences)]


def longest(case):
    """Tokens of a prompt and its answer."""
    return max(p + g for p, g in lengths(case))


def requests(case, seed):
    """(token ids, generated tokens) of each request; ids that are special nowhere."""
    rng = random.Random(f"{case.name} {seed}")
    return [([rng.randrange(1000, 31000) for _ in range(p)], g) for p, g in lengths(case)]
