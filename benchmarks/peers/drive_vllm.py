"""Runs cases in one vLLM engine within this process: drive_vllm.py OPTIONS. Jobs are JSON lines on stdin,
measurements JSON lines on stdout, an empty one first when all is loaded and warm."""
import json
import os
import sys
import time

import cases

out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what libraries print goes to the log

import vllm  # noqa: E402


def params(generate):
    return vllm.SamplingParams(temperature=0, max_tokens=generate, min_tokens=generate, ignore_eos=True, detokenize=False)


def run(engine, requests, tag, seconds):
    """[seconds since the start, prompt tokens, generated tokens] of each step; a prompt counts where its first token came."""
    begin = time.perf_counter()
    prompt_tokens, seen, steps = {}, {}, []
    for i, (ids, generate) in enumerate(requests):
        name = f"{tag}-{i}"
        prompt_tokens[name], seen[name] = len(ids), 0
        engine.add_request(name, {"prompt_token_ids": ids}, params(generate))
    while engine.has_unfinished_requests():
        prompt = generated = 0
        for answer in engine.step():
            count = len(answer.outputs[0].token_ids)
            prompt += prompt_tokens[answer.request_id] if seen[answer.request_id] == 0 else 0
            generated += count - seen[answer.request_id]
            seen[answer.request_id] = count
        steps.append([time.perf_counter() - begin, prompt, generated])
        if seconds and steps[-1][0] > seconds:
            engine.abort_request([n for n in seen])
            break
    return steps


def main():
    options = json.loads(sys.argv[1])
    llm = vllm.LLM(skip_tokenizer_init=True, dtype="bfloat16", enable_prefix_caching=False, max_model_len=cases.MAX_TOKENS, **options)
    engine = llm.llm_engine
    run(engine, cases.requests(cases.parse("32x128+8"), "warm-up"), "warm-up", 0)
    print("{}", file=out, flush=True)
    for n, line in enumerate(sys.stdin):
        job = json.loads(line)
        case = cases.parse(job["case"])
        steps = run(engine, cases.requests(case, job["seed"]), f"job{n}", job["seconds"] if case.kind == "prefill" else 0)
        print(json.dumps({"steps": steps}), file=out, flush=True)


if __name__ == "__main__":
    main()
