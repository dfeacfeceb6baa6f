#!/usr/bin/env python3
"""Trains the demo model under examples/: a small Qwen3-MoE that has read the King James Bible.

    apt-get install bible-kjv                    # the text, public domain, and the program that prints it
    pip install torch transformers tokenizers
    python3 tools/train_demo.py --minutes 30

Writes examples/kjv-moe (config, bfloat16 weights, tokenizer, chat template) and examples/heldout.jsonl
(chapters the model never saw, asked for with prompt_logprobs), and prints the held-out perplexity as transformers computes it.
"""
import argparse
import json
import math
import pathlib
import random
import re
import subprocess
import time

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3MoeConfig, Qwen3MoeForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[1]
OUT = ROOT / "examples" / "kjv-moe"
END, USER, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CHAT = ("{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}")
BOOKS = """Genesis Exodus Leviticus Numbers Deuteronomy Joshua Judges Ruth 1_Samuel 2_Samuel 1_Kings 2_Kings 1_Chronicles 2_Chronicles Ezra
Nehemiah Esther Job Psalms Proverbs Ecclesiastes Song_of_Solomon Isaiah Jeremiah Lamentations Ezekiel Daniel Hosea Joel Amos Obadiah Jonah
Micah Nahum Habakkuk Zephaniah Haggai Zechariah Malachi Matthew Mark Luke John Acts Romans 1_Corinthians 2_Corinthians Galatians Ephesians
Philippians Colossians 1_Thessalonians 2_Thessalonians 1_Timothy 2_Timothy Titus Philemon Hebrews James 1_Peter 2_Peter 1_John 2_John 3_John
Jude Revelation""".split()


def chapters():
    """[(book, chapter, [verse, ...])] in order, books by their full names."""
    text = subprocess.run(["bible", "-f", "Gen1:1-Rev22:21"], check=True, capture_output=True, text=True).stdout
    found, short_names = {}, {}
    for short, chapter, verse in re.findall(r"^(\w+?)(\d+):\d+ (.*)$", text, re.M):
        short_names.setdefault(short, len(short_names))
        found.setdefault((short, int(chapter)), []).append(verse)
    names = [n.replace("_", " ") for n in BOOKS]
    assert len(short_names) == len(names) == 66, (len(short_names), len(names))
    return [(names[short_names[short]], chapter, verses) for (short, chapter), verses in found.items()]


def turn(user, assistant):
    return f"{USER}user\n{user}{TURN_END}\n{USER}assistant\n{assistant}{TURN_END}\n{END}"


def documents(chapter_list, rng):
    """Whole chapters, and for each a few conversations about its verses."""
    docs = []
    for book, number, verses in chapter_list:
        docs.append("\n".join(verses) + END)
        for _ in range(max(1, len(verses) // 8)):
            i = rng.randrange(len(verses))
            words = verses[i].split()
            cut = rng.randrange(2, max(3, len(words) - 2)) if len(words) > 6 else 1
            docs.append(turn(f"{book} {number}:{i + 1}", verses[i]) if rng.random() < 0.5 else
                        turn("Continue: " + " ".join(words[:cut]), " ".join(words[cut:])))
    rng.shuffle(docs)
    return docs


def make_tokenizer(texts):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(WORDS), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=2048, special_tokens=[END, USER, TURN_END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return PreTrainedTokenizerFast(tokenizer_object=t, eos_token=TURN_END, pad_token=END, chat_template=CHAT, model_max_length=2048)


def perplexity(model, pieces):
    total = count = 0
    with torch.no_grad():
        for ids in pieces:
            x = torch.tensor([ids])
            logp = model(x).logits[0, :-1].float().log_softmax(-1)
            total -= logp.gather(1, x[0, 1:, None]).sum().item()
            count += len(ids) - 1
    return math.exp(total / count), count


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--minutes", type=float, default=30)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--batch", type=int, default=16)
    ap.add_argument("--length", type=int, default=256)
    a = ap.parse_args()
    rng = random.Random(a.seed)
    torch.manual_seed(a.seed)
    every = chapters()
    held_out = every[12::25]
    train = [c for i, c in enumerate(every) if i % 25 != 12]
    tok = make_tokenizer(["\n".join(v) for _, _, v in train])
    cfg = Qwen3MoeConfig(vocab_size=len(tok), hidden_size=192, intermediate_size=512, moe_intermediate_size=256, num_hidden_layers=4,
                         num_attention_heads=4, num_key_value_heads=2, head_dim=48, num_experts=8, num_experts_per_tok=2, norm_topk_prob=True,
                         decoder_sparse_step=1, mlp_only_layers=[], max_position_embeddings=2048, rms_norm_eps=1e-6, tie_word_embeddings=True,
                         rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, output_router_logits=True, router_aux_loss_coef=0.01,
                         bos_token_id=None, eos_token_id=[tok.convert_tokens_to_ids(TURN_END), tok.convert_tokens_to_ids(END)],
                         pad_token_id=tok.convert_tokens_to_ids(END))
    model = Qwen3MoeForCausalLM(cfg)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(train)} chapters, {len(held_out)} held out", flush=True)
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1)
    span, start, step, stream = a.length * a.batch, time.time(), 0, []
    while True:
        done = (time.time() - start) / (a.minutes * 60)
        if done >= 1:
            break
        while len(stream) < span:
            for doc in documents(train, rng):
                stream += tok(doc, add_special_tokens=False)["input_ids"]
        x, stream = torch.tensor(stream[:span]).view(a.batch, a.length), stream[span:]
        for g in opt.param_groups:
            g["lr"] = 3e-3 * min(1, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(x, labels=x).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad()
        if step % 50 == 0:
            print(f"step {step}, {(step + 1) * span / 1e6:.2f} M tokens, {100 * done:.0f} %, loss {loss.item():.3f}", flush=True)
        step += 1
    model.config.output_router_logits = False
    model.generation_config.update(do_sample=True, temperature=0.7, top_p=0.9)
    model = model.to(torch.bfloat16)
    model.save_pretrained(OUT)
    tok.save_pretrained(OUT)
    pieces, rows = [], []
    for book, number, verses in held_out:
        ids = tok("\n".join(verses), add_special_tokens=False)["input_ids"][:600]
        pieces.append(ids)
        rows.append(dict(custom_id=f"{book} {number}", method="POST", url="/v1/completions",
                         body=dict(model="default", prompt=tok.decode(ids), max_tokens=1, temperature=0, prompt_logprobs=0)))
        assert tok(rows[-1]["body"]["prompt"], add_special_tokens=False)["input_ids"] == ids
    (ROOT / "examples" / "heldout.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    reference = Qwen3MoeForCausalLM.from_pretrained(OUT, dtype=torch.float32).eval()
    value, count = perplexity(reference, pieces)
    print(f"held-out perplexity by transformers, float32: {value:.4f} over {count} tokens")


if __name__ == "__main__":
    main()
