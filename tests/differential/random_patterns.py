"""Random regular expressions in the dialect of tokenizer.json, and random texts: what a Replace finds must be what it finds in the package tokenizers."""
import json
import os
import pathlib
import random
import tempfile

import common

os.environ["RUST_BACKTRACE"] = "0"
hf = common.need("tokenizers")

CHARS = ["a", "b", "A", "Z", "1", "7", "_", " ", "\n", "\r", "\t", "-", "'", ".", "]", "[", "&", "^", "é", "É", "ß", "ſ", "K", "ж", "中", "あ", "ア", "한", "٣", "½", "²", "Ⅳ",
         "\u0301", "\u0345", "\u180e", "\u200b", "\u200d", "\u00a0", "\u0085", "\u2028", "\u3000", "\u3001", "\u30fc", "\u24b6", "\U0001f600", "\U00031350", "\U000105c0", "\ua7cb",
         "\u1c89", "\u0378", "\ufeff", "\x00", "\x0b", "\x1c"]
SETS = [r"\s", r"\S", r"\w", r"\W", r"\d", r"\D", r"\h", r"\H"] + [rf"\{p}{{{name}}}" for p in "pP" for name in (
    "L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "N", "Nd", "Nl", "No", "P", "Pc", "Pd", "Po", "S", "Sm", "So", "Z", "Zs", "C", "Cc", "Cf", "Han", "Hiragana", "Katakana",
    "Hangul", "Latin", "Cyrillic", "Arabic", "Thai", "^L", "^Han", "^N", "Letter", "Alphabetic", "Any")]
POSIX = ["[:alpha:]", "[:digit:]", "[:space:]", "[:upper:]", "[:lower:]", "[:punct:]", "[:alnum:]", "[:^alpha:]", "[:xdigit:]", "[:word:]"]


class Maker(common.Choices):
    def char(self):
        c = self.rng.choice(CHARS)
        if c in r"\^$.|?*+()[]{}-&'_ ":
            return "\\" + c if c in r"\^$.|?*+()[]{}-&" else c
        return self.one(c, c, lambda: f"\\x{{{ord(c):x}}}", lambda: f"\\u{ord(c):04x}" if ord(c) < 0x10000 else c)

    def member(self, depth):
        kinds = [self.char, self.char, lambda: self.rng.choice(SETS), lambda: self.one("a-z", "A-Z", "0-9", "一-龥", "぀-ゟ", r"\x{4e00}-\x{9fff}", "а-я"), lambda: self.rng.choice(POSIX)]
        if depth < 2:
            kinds.append(lambda: self.char_class(depth + 1))
        return self.one(*kinds)

    def char_class(self, depth=0):
        operands = ["".join(self.member(depth) for _ in range(self.rng.randint(1, 3))) for _ in range(self.one(1, 1, 1, 2, 3))]
        return "[" + self.one("", "", "^") + "&&".join(operands) + "]"

    def atom(self, depth):
        kinds = [self.char, self.char, lambda: self.rng.choice(SETS), self.char_class, self.char_class, lambda: "."]
        if depth < 2:
            kinds += [lambda: f"({self.one('?:', '?:', '', '?>')}{self.pattern(depth + 1)})", lambda: f"(?i:{self.char()}{self.one('', self.char)})"]
        return self.one(*kinds)

    def item(self, depth):
        if self.chance(0.08):
            return self.one("^", "$", r"\A", r"\z", r"\Z", r"\b", r"\B")
        if self.chance(0.08):
            return f"({self.one('?=', '?!')}{self.atom(2)})"
        if self.chance(0.04):
            return f"({self.one('?<=', '?<!')}{self.one(self.char, self.char_class)})"
        return self.atom(depth) + self.one("", "", "", "?", "*", "+", "{1,3}", "{2}", "{2,}", "+?", "*?", "++", "?+", "*+")

    def pattern(self, depth=0):
        return "|".join("".join(self.item(depth) for _ in range(self.rng.randint(1, 3))) for _ in range(self.one(1, 1, 2, 3)))

    def text(self):
        return "".join(self.one(lambda: self.rng.choice(CHARS), lambda: self.rng.choice("abA1 \n"), lambda: self.rng.choice("abA1 \n") * 3) for _ in range(self.rng.randint(1, 14)))


def file_with(pattern):
    vocab = {c: i for i, c in enumerate(common.byte_alphabet().values())}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "post_processor": None,
            "normalizer": {"type": "Replace", "pattern": {"Regex": pattern}, "content": "#"},
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}, "decoder": None,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
                      "byte_fallback": False, "vocab": vocab, "merges": []}}


def expected(tokenizer, text):
    """None where tokenizers 0.23 panics."""
    try:
        return tokenizer.encode(text, add_special_tokens=False).ids
    except BaseException as e:  # noqa: BLE001  # a panic is no Exception
        if type(e).__name__ != "PanicException":
            raise
        return None


def main():
    rng = random.Random(common.seed())
    maker, per_pattern = Maker(rng), 8
    mismatches, compared, refused = [], 0, 0
    for _ in range(max(1, common.cases(1600) // per_pattern)):
        pattern = maker.pattern()
        file = file_with(pattern)
        try:
            tokenizer = hf.Tokenizer.from_str(json.dumps(file))
        except Exception:  # noqa: BLE001  # what it refuses, we may take
            continue
        texts = [maker.text() for _ in range(per_pattern)]
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "tokenizer.json").write_text(json.dumps(file))
            got = common.answers(folder, [{"text": text, "add_special_tokens": False} for text in texts])
        refused += "error" in got[0]
        for text, mine in zip(texts, got):
            theirs = expected(tokenizer, text)
            if theirs is None or "error" in mine:
                continue
            compared += 1
            if mine["ids"] != theirs:
                shown = [bytes(ids).decode(errors="replace") if max(ids, default=0) < 256 else ids for ids in (decoded(theirs), decoded(mine["ids"]))]
                mismatches.append(f"{pattern!r} on {text!r}\n  tokenizers: {shown[0]!r}\n  moegen:     {shown[1]!r}")
    common.report("patterns", compared, mismatches, f"; {refused} patterns refused")


def decoded(ids):
    return [list(common.byte_alphabet())[i] for i in ids]


if __name__ == "__main__":
    main()
