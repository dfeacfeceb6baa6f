"""Random tokenizers of the kinds that moegen reads, and random texts: ids and decoded texts must be those of the package tokenizers."""
import itertools
import json
import os
import random
import tempfile
import unicodedata

import common

os.environ["RUST_BACKTRACE"] = "0"
hf = common.need("tokenizers")

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
GPTOSS = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
          r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
          r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
PATTERNS = [GPT2, LLAMA3, QWEN2, GPTOSS, r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+", r"\s+", r"[\r\n]", r"\p{P}", r"[^\p{L}]+"]
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
MARK = "\u2581"
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|end|>", "[INST]", "<b>", "é!", "  ", "▁x", "tok", "日本"]


class Maker(common.Choices):
    # ---- texts

    def char(self):
        """Of the characters that old and new versions of Unicode know alike."""
        while True:
            c = chr(self.one(lambda: self.rng.randrange(0x20, 0x7F), lambda: self.rng.randrange(0x80, 0x600), lambda: self.rng.randrange(0x600, 0x3400),
                             lambda: self.rng.randrange(0x4E00, 0x4E80), lambda: self.rng.randrange(0xAC00, 0xAC80), lambda: self.rng.randrange(0xF900, 0x10000),
                             lambda: self.rng.randrange(0x1D400, 0x1D7FF), lambda: self.rng.randrange(0x1F300, 0x1F650), lambda: self.rng.randrange(0x10000, 0x20000)))
            if unicodedata.category(c) not in ("Cn", "Cs", "Co"):
                return c

    def word(self):
        letters = "abcde" if self.chance(0.7) else "aeABÉéßñIİıſﬁǅ中日あアक한\u0301\u0323\u0308"
        return "".join(self.rng.choice(letters) for _ in range(self.rng.randint(1, 7)))

    def text(self):
        parts = [lambda: self.word(), lambda: self.word(), lambda: self.one(" ", " ", "  ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u3000", "\u2003", "\u200b", "   \n "),
                 lambda: self.rng.choice(SPECIAL), lambda: self.one("'s", "'LL", "’t", "...", "!?", "$5", "(a)", "http://a.b/c_d", MARK, "_", "-", "\x00", "\x7f", "\ufeff"),
                 lambda: str(self.rng.randrange(10 ** self.rng.randint(1, 9))), lambda: self.one("١٢٣", "½²", "Ⅳ", "①"), lambda: self.char() * self.rng.randint(1, 3),
                 lambda: self.one("👩‍👩‍👧", "🇫🇷", "e\u0301\u0327", "\u1100\u1161\u11a8", "ཱི", "क्षि", "<0x41>", "Ġ", "Ã©")]
        return "".join(self.one(*parts) for _ in range(self.rng.randint(0, 12)))

    # ---- tokenizers

    def merges(self, vocab, count, usable):
        """Random pairs of tokens; what they make joins the vocabulary."""
        merges, pool = [], [t for t in vocab if usable(t)]
        letters = [t for t in pool if t in "abcde Ġ▁"]
        for _ in range(count):
            left, right = (self.rng.choice(letters if letters and self.chance(0.7) else pool) for _ in range(2))
            if len(left + right) > 8 or [left, right] in merges:
                continue
            merges.append([left, right])
            if left + right not in vocab:
                vocab[left + right] = len(vocab)
                pool.append(left + right)
                letters.append(left + right)
        return merges if self.chance(0.5) else [" ".join(m) for m in merges if all(" " not in part for part in m)]

    def normalizer(self, extra=()):
        kinds = [lambda: {"type": self.one("NFC", "NFD", "NFKC", "NFKD", "Lowercase")}, lambda: {"type": "NFC"},
                 lambda: {"type": "Strip", "strip_left": self.chance(0.5), "strip_right": self.chance(0.5)},
                 lambda: {"type": "Replace", "pattern": self.one({"String": self.one(" ", "a", "'s")}, {"Regex": self.one(" {2,}", r"\s+", "[aé]")}),
                          "content": self.one("", "b", " ", "xy")}, lambda: {"type": "Prepend", "prepend": self.one("a", " ", "é")}]
        steps = [self.one(*kinds) for _ in range(self.one(0, 0, 1, 1, 2, 3))] + list(extra)
        return None if not steps else steps[0] if len(steps) == 1 and self.chance(0.5) else {"type": "Sequence", "normalizers": steps}

    def split(self):
        pattern = self.one({"Regex": self.rng.choice(PATTERNS)}, {"Regex": self.rng.choice(PATTERNS)}, {"String": self.one(" ", "a", "ab", "日")})
        return {"type": "Split", "pattern": pattern, "behavior": self.rng.choice(BEHAVIORS), "invert": self.chance(0.2)}

    def pre_tokenizer(self, last):
        kinds = [self.split, self.split, lambda: {"type": "Digits", "individual_digits": self.chance(0.5)},
                 lambda: {"type": "Punctuation", "behavior": self.rng.choice(BEHAVIORS)}, lambda: {"type": self.one("Whitespace", "WhitespaceSplit")}]
        steps = [self.one(*kinds) for _ in range(self.one(0, 0, 1, 1, 2))] + last
        return None if not steps else steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps}

    def added_tokens(self, vocab):
        tokens, free = [], len(vocab)
        for content in self.rng.sample(SPECIAL, self.rng.randint(0, 6)):
            special = self.chance(0.5)  # and not normalized: tokenizers 0.23 does not know it again; nor is what a normalizer may leave empty
            free += content not in vocab
            tokens.append({"id": vocab.get(content, free - 1), "content": content, "single_word": self.chance(0.2), "lstrip": self.chance(0.3),
                           "rstrip": self.chance(0.3), "normalized": not special and content.strip() != "" and self.chance(0.5), "special": special})
        tokens.sort(key=lambda t: t["id"])
        return tokens

    def post_processor(self, added):
        if not added or self.chance(0.5):
            return None
        template = [{"SpecialToken": {"id": t["content"], "type_id": 0}} for t in self.rng.sample(added, self.rng.randint(0, min(2, len(added))))]
        template.insert(self.rng.randint(0, len(template)), {"Sequence": {"id": "A", "type_id": 0}})
        known = {t["content"]: {"id": t["content"], "ids": [t["id"]], "tokens": [t["content"]]} for t in added}
        processor = {"type": "TemplateProcessing", "single": template, "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                     "special_tokens": known}
        byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
        return self.one(processor, {"type": "Sequence", "processors": [byte_level, processor]})

    def byte_level(self):
        vocab = {c: i for i, c in enumerate(common.byte_alphabet().values())}
        merges = self.merges(vocab, self.rng.randint(0, 60), lambda t: True)
        last = {"type": "ByteLevel", "add_prefix_space": self.chance(0.3), "trim_offsets": True, "use_regex": self.chance(0.4)}
        model = {"ignore_merges": self.chance(0.3)}
        return self.file(vocab, merges, model, self.normalizer(), self.pre_tokenizer([last]),
                         {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True})

    def byte_fallback(self):
        vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"<0x{b:02X}>": 3 + b for b in range(256)}}
        if self.chance(0.2):
            del vocab["<0xC3>"]
            vocab = {t: i for i, t in enumerate(vocab)}
        for c in MARK + "abcdeABÉéß中日\u0301":
            vocab[c] = len(vocab)
        merges = self.merges(vocab, self.rng.randint(0, 60), lambda t: not t.startswith("<"))
        model = {"byte_fallback": self.chance(0.8), "fuse_unk": self.chance(0.5), "unk_token": self.one("<unk>", "<unk>", None), "ignore_merges": self.chance(0.2)}
        replace = {"type": "Replace", "pattern": {"String": MARK}, "content": " "}
        scheme = self.one("always", "first", "never")
        strip = {"type": "Strip", "content": " ", "start": self.rng.randint(0, 2), "stop": 0}  # with a stop tokenizers 0.23 dies of an empty text
        decoder = {"type": "Sequence", "decoders": [replace, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]}
        if self.chance(0.5):  # as Llama 2 and Mistral
            extra = [{"type": "Prepend", "prepend": MARK}] * self.one(0, 1) + [{"type": "Replace", "pattern": {"String": " "}, "content": MARK}]
            return self.file(vocab, merges, model, self.normalizer(extra), None, decoder)
        metaspace = {"type": "Metaspace", "replacement": MARK, "prepend_scheme": scheme, "split": self.chance(0.5)}
        return self.file(vocab, merges, model, self.normalizer(), self.pre_tokenizer([metaspace]), self.one(metaspace, decoder))

    def file(self, vocab, merges, model, normalizer, pre_tokenizer, decoder):
        added = self.added_tokens(vocab)
        model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
                 "byte_fallback": False, **model, "vocab": vocab, "merges": merges}
        return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
                "post_processor": self.post_processor(added), "decoder": decoder, "model": model}


def expected(tokenizer, line):
    """None where tokenizers 0.23 panics (offsets of added tokens in normalized text)."""
    try:
        if "text" in line:
            return {"ids": tokenizer.encode(line["text"], add_special_tokens=line["add_special_tokens"]).ids}
        return {"text": tokenizer.decode(line["ids"], skip_special_tokens=line["skip_special_tokens"])}
    except BaseException as e:  # noqa: BLE001  # a panic is no Exception
        if type(e).__name__ != "PanicException":
            raise
        return None


def lines_for(maker, tokenizer, count):
    """Texts to encode, and ids to decode: those of the texts, and random ones."""
    lines = []
    for _ in range(count):
        text = maker.text()
        lines.append({"text": text, "add_special_tokens": maker.chance(0.5)})
        size = tokenizer.get_vocab_size() + 3
        ids = (expected(tokenizer, lines[-1]) or {"ids": []})["ids"] if maker.chance(0.5) else [maker.rng.randrange(size) for _ in range(maker.rng.randint(0, 12))]
        lines.append({"ids": ids, "skip_special_tokens": maker.chance(0.5)})
    return lines


def shown(file):
    return json.dumps({**file, "model": {**file["model"], "vocab": f"{len(file['model']['vocab'])} tokens", "merges": file["model"]["merges"][:20]}}, ensure_ascii=False)


def every_character():
    """(file, lines): all that old and new versions of Unicode know alike, between letters and among marks, through what asks for properties."""
    maker = Maker(random.Random(0))
    known = [chr(c) for c in range(1, 0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co") and not (0x4E10 <= c < 0x9F00 or 0xAC10 <= c < 0xD700 or c >= 0x20010)]
    texts = ["".join(f"a{c}a{c}\u0316" for c in known[i:i + 32]) for i in range(0, len(known), 32)]
    last = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False}
    kinds = [(None, {"type": "Punctuation", "behavior": "Isolated"}), (None, {"type": "Whitespace"}), (None, {"type": "Digits", "individual_digits": True}),
             (None, {"type": "Split", "pattern": {"Regex": r"\w"}, "behavior": "Isolated", "invert": False}), ({"type": "NFC"}, None), ({"type": "NFKD"}, None), ({"type": "Lowercase"}, None)]
    for normalizer, step in kinds:
        vocab = {c: i for i, c in enumerate(common.byte_alphabet().values())}
        maker.added_tokens = lambda _: []
        yield (maker.file(vocab, [], {}, normalizer, {"type": "Sequence", "pretokenizers": ([step] if step else []) + [last]}, None),
               [{"text": text, "add_special_tokens": False} for text in texts])


def random_cases(per_tokenizer):
    for number in range(max(1, common.cases(4000) // (2 * per_tokenizer))):
        maker = Maker(random.Random(common.seed() * 1_000_003 + number))
        file = maker.one(maker.byte_level, maker.byte_fallback)
        yield file, lines_for(maker, hf.Tokenizer.from_str(json.dumps(file)), per_tokenizer)


def main():
    num_cases, num_panics, mismatches = 0, 0, []
    for file, lines in itertools.chain(every_character(), random_cases(40)):
        tokenizer = hf.Tokenizer.from_str(json.dumps(file))
        with tempfile.TemporaryDirectory() as folder:
            with open(folder + "/tokenizer.json", "w") as f:
                json.dump(file, f)
            got = common.answers(folder, lines)
        num_cases += len(lines)
        for line, mine in zip(lines, got):
            theirs = expected(tokenizer, line)
            num_panics += theirs is None
            if theirs is not None and mine != theirs:
                mismatches.append(f"{shown(file)}\n  {line!r}\n  tokenizers: {theirs!r}\n  moegen:     {mine!r}")
    common.report("tokenizers", num_cases, mismatches, f"; {num_panics} that tokenizers cannot do")


if __name__ == "__main__":
    main()
