#!/usr/bin/env python3
"""Perplexity of the prompts of answers that were asked for with prompt_logprobs: tools/perplexity.py OUT.jsonl"""
import json
import math
import sys


def main():
    total = count = 0
    for line in open(sys.argv[1], encoding="utf-8"):
        answer = json.loads(line)
        for choice in answer["response"]["body"]["choices"]:
            # Each position maps ids to entries; with prompt_logprobs 0 the only one is the prompt's own token.
            for entries in choice["prompt_logprobs"][1:]:
                (entry,) = entries.values()
                total -= entry["logprob"]
                count += 1
    print(f"perplexity {math.exp(total / count):.4f} over {count} tokens")


if __name__ == "__main__":
    main()
