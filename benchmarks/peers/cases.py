"""What is run: the same token ids for every engine. A case is its name: SEQUENCESxPROMPT+GENERATE, as 64x128+64, or ragged:COUNT.

GENERATE 1 measures prefill, more measure decode with all sequences in flight, ragged a whole job. Standard library only.
"""
import csv
import dataclasses
import pathlib
import random

LENGTHS = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data" / "workloads" / "lengths_chatarena.csv"
RAGGED_SCALE = 4  # lengths are divided by it: 64 in and 55 out in the mean, 1,024 and 128 at most
MAX_TOKENS = 1280  # prompt and answer, of any case


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
    if name.startswith("ragged:"):
        return Case(name, int(name.removeprefix("ragged:")))
    sequences, _, rest = name.partition("x")
    prompt, _, generate = rest.partition("+")
    return Case(name, int(sequences), int(prompt), int(generate))


def lengths(case):
    """(prompt tokens, generated tokens) of each request."""
    if case.kind != "ragged":
        return [(case.prompt, case.generate)] * case.sequences
    with open(LENGTHS, encoding="utf-8") as f:
        rows = [(int(r["prompt_tokens"]), int(r["output_tokens"])) for r in csv.DictReader(f)]
    rows = [(max(1, p // RAGGED_SCALE), max(1, g // RAGGED_SCALE)) for p, g in rows]
    return [rows[i % len(rows)] for i in range(case.sequences)]


def requests(case, seed):
    """(token ids, generated tokens) of each request; ids that are special nowhere."""
    rng = random.Random(f"{case.name} {seed}")
    return [([rng.randrange(1000, 31000) for _ in range(p)], g) for p, g in lengths(case)]
