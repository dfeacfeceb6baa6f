"""Random checkpoint folders: what tokenizer_config.json, special_tokens_map.json and added_tokens.json say about tokens must mean what it means to transformers' AutoTokenizer."""
import json
import pathlib
import random
import tempfile

import common

transformers = common.need("transformers")
from random_tokenizers import Maker  # noqa: E402  # needs tokenizers

transformers.logging.set_verbosity_error()
MORE = ["<|extra|>", "<tool>", "</tool>", "abc", "<pad>"]
FLAGS = ["lstrip", "rstrip", "single_word", "normalized", "special"]


class Folder(Maker):
    """One folder's files; `contents` are those of its added tokens."""

    def __init__(self, rng):
        super().__init__(rng)
        tokenizer = self.one(self.byte_level, self.byte_fallback)
        listed, config = tokenizer["added_tokens"], {"tokenizer_class": "PreTrainedTokenizerFast"}
        self.files = {"tokenizer.json": tokenizer, "tokenizer_config.json": config}
        vocab = tokenizer["model"]["vocab"]
        top = max([*vocab.values(), *(t["id"] for t in listed)])
        more = {content: top + 1 + i for i, content in enumerate(c for c in rng.sample(MORE, rng.choice([0, 0, 1, 3])) if c not in vocab)}
        decoder = {}
        if self.chance(0.7):
            decoder = self.decoder(listed, more)
            config["added_tokens_decoder"] = decoder
        elif self.chance(0.5):  # as older checkpoints
            self.files["added_tokens.json"] = {**{t["content"]: t["id"] for t in listed if t["content"] not in vocab and self.chance(0.5)}, **more}
        tokens = [*listed, *decoder.values()]
        self.contents = [*(t["content"] for t in tokens), *self.files.get("added_tokens.json", {})]
        self.name_tokens(config, [t["content"] for t in tokens if t["special"]] + [t for t in vocab if len(t) == 2][:2])
        if self.chance(0.2):
            tokenizer["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
        config.update({key: self.chance(0.5) for key in ("clean_up_tokenization_spaces", "add_prefix_space") if self.chance(0.2)})

    def decoder(self, listed, more):
        """"added_tokens_decoder": mostly as tokenizer.json has them."""
        out = {}
        for t in listed:
            entry = {key: t[key] for key in ("content", *FLAGS)}
            if self.chance(0.15):
                flag = self.one("lstrip", "rstrip", "special")
                entry[flag] = not entry[flag]
            if self.chance(0.9):
                out[str(t["id"])] = entry
        for content, i in more.items():
            special = self.chance(0.5)
            out[str(i)] = {"content": content, "lstrip": False, "rstrip": self.chance(0.2), "single_word": False, "normalized": not special and self.chance(0.5), "special": special}
        return out

    def name_tokens(self, config, contents):
        names = {}
        for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
            if contents and self.chance(0.5):
                content = self.rng.choice(contents)
                config[name] = self.one(content, {"__type": "AddedToken", "content": content, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False})
                if self.chance(0.5):
                    names[name] = content
        if contents and self.chance(0.2):
            config["additional_special_tokens"] = self.rng.sample(contents, 1)
        if self.chance(0.5):
            self.files["special_tokens_map.json"] = names

    def line(self):
        return "".join(self.one(self.text, self.word, " ", lambda: self.rng.choice(self.contents or MORE)) for _ in range(self.rng.randint(1, 5)))


def compared(folder, tokenizer, path, count):
    """(line, what transformers gives, what moegen gives)"""
    lines, theirs = [], []
    for _ in range(count):
        lines.append({"text": folder.line(), "add_special_tokens": folder.chance(0.5)})
        theirs.append({"ids": tokenizer.encode(lines[-1]["text"], add_special_tokens=lines[-1]["add_special_tokens"])})
        lines.append({"ids": theirs[-1]["ids"], "skip_special_tokens": folder.chance(0.5)})
        theirs.append({"text": tokenizer.decode(lines[-1]["ids"], skip_special_tokens=lines[-1]["skip_special_tokens"])})
    return zip(lines, theirs, common.answers(path, lines))


def main():
    per_folder, num_cases, mismatches, panics = 10, 0, [], 0
    for number in range(max(1, common.cases(600) // (2 * per_folder))):
        folder = Folder(random.Random(common.seed() * 1_000_003 + number))
        with tempfile.TemporaryDirectory() as path:
            for name, content in folder.files.items():
                pathlib.Path(path, name).write_text(json.dumps(content))
            try:
                cases = list(compared(folder, transformers.AutoTokenizer.from_pretrained(path), path, per_folder))
            except BaseException as e:  # noqa: BLE001  # a panic of tokenizers 0.23 is no Exception
                if type(e).__name__ != "PanicException":
                    raise
                panics += 1
                continue
        num_cases += len(cases)
        shown = json.dumps({**{n: c for n, c in folder.files.items() if n != "tokenizer.json"}, "added_tokens": folder.files["tokenizer.json"]["added_tokens"]}, ensure_ascii=False)
        mismatches += [f"{shown}\n  {line!r}\n  transformers: {theirs!r}\n  moegen:       {mine!r}" for line, theirs, mine in cases if theirs != mine]
    common.report("folders", num_cases, mismatches, f"; {panics} folders that tokenizers cannot do")


if __name__ == "__main__":
    main()
