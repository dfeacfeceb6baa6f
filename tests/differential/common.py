"""What the differential tests share: the packages to compare with, the number of cases, and the program under test as a function."""
import importlib
import json
import os
import subprocess
import sys

SKIPPED = 77  # ctest's SKIP_RETURN_CODE


def need(package):
    """A module of PyPI, or the end of this test, as skipped."""
    try:
        return importlib.import_module(package)
    except ImportError as e:
        print(f"skipped: {sys.executable} cannot import {package} ({e}); MOEGEN_PYTHON names a python that can")
        sys.exit(SKIPPED)


def cases(usual):
    """How many: MOEGEN_CASES, or what a test run can afford."""
    return int(os.environ.get("MOEGEN_CASES", usual))


def seed():
    return int(os.environ.get("MOEGEN_SEED", 1))


def byte_alphabet():
    """GPT-2's letters for bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


class Choices:
    """What random cases are drawn with."""

    def __init__(self, rng):
        self.rng = rng

    def one(self, *options):
        """One of the options; called, if it can be."""
        pick = self.rng.choice(options)
        return pick() if callable(pick) else pick

    def chance(self, p):
        return self.rng.random() < p


def answers_of(arguments, lines):
    """What the program under test, called with `arguments`, answers to each of `lines`."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    run = subprocess.run([sys.argv[1], *arguments], input=text, capture_output=True, encoding="utf-8")
    if run.returncode != 0:
        return [{"error": {"message": run.stderr.strip() or f"exit status {run.returncode}"}}] * len(lines)
    return [json.loads(line) for line in run.stdout.split("\n") if line]


def answers(model, lines):
    """What `moegen tokenize` answers to each of `lines`, with the tokenizer and the template in the folder `model`."""
    return answers_of(["tokenize", "-m", model], lines)


def report(what, num_cases, mismatches, more=""):
    """Prints the first mismatches and the count, and ends the test."""
    for mismatch in mismatches[: int(os.environ.get("MOEGEN_SHOWN", 10))]:
        print(mismatch, end="\n\n")
    print(f"{what}: {num_cases} cases, {len(mismatches)} mismatches{more}")
    sys.exit(bool(mismatches))
