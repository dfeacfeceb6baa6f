#!/usr/bin/env python3
"""Prints prompts and answers side by side: tools/show_answers.py IN.jsonl OUT.jsonl"""
import json
import sys


def main():
    requests = {r["custom_id"]: r["body"] for r in map(json.loads, open(sys.argv[1], encoding="utf-8"))}
    for answer in map(json.loads, open(sys.argv[2], encoding="utf-8")):
        request, response = requests[answer["custom_id"]], answer["response"]
        prompt = request["messages"][-1]["content"] if "messages" in request else request["prompt"]
        print(f"\n[{answer['custom_id']}] {prompt}")
        for choice in response["body"].get("choices", []):
            text = choice["message"]["content"] if "message" in choice else choice["text"]
            print("   ...", text.strip().replace("\n", "\n       "), f"({choice['finish_reason']})")
        if response["status_code"] != 200:
            print("   error:", response["body"]["error"]["message"])


if __name__ == "__main__":
    main()
