"""Random model outputs, whole and broken: reasoning, content and calls must be those that vLLM's parsers of the same names find.

harmony needs the tokenizer of gpt-oss of ../shared (MOEGEN_SHARED).
"""
import base64
import collections
import json
import logging
import lzma
import os
import pathlib
import random
import re
import tempfile

import common
from model_outputs import DECLARED, FORMATS, TOOLS, Writer, dumps

os.environ.setdefault("VLLM_LOGGING_LEVEL", "CRITICAL")
ParserManager = common.need("vllm.parser.parser_manager").ParserManager
ParserEngine = common.need("vllm.parser.engine.parser_engine").ParserEngine
ChatCompletionRequest = common.need("vllm.entrypoints.openai.chat_completion.protocol").ChatCompletionRequest
logging.disable(logging.CRITICAL)

REQUEST = ChatCompletionRequest(model="m", messages=[{"role": "user", "content": "Hi"}], tools=DECLARED)


class Tokenizer:
    """As much of one as the parsers ask for."""

    def __init__(self, marks):
        self.vocab = {mark: i for i, mark in enumerate(marks)}

    def get_vocab(self):
        return self.vocab


def harmony_encoding(folder):
    """Of openai_harmony, whose vocabulary is made of gpt-oss's tokenizer, as it comes from the network otherwise; None without the files."""
    data = pathlib.Path(os.environ.get("MOEGEN_SHARED", pathlib.Path(__file__).parents[3] / "shared")) / "data/tokenizers/gptoss/tokenizer.json.xz"
    if not data.exists():
        return None
    byte_of = {char: byte for byte, char in common.byte_alphabet().items()}
    vocab = json.loads(lzma.decompress(data.read_bytes()))["model"]["vocab"]
    with open(folder + "/o200k_base.tiktoken", "wb") as f:
        for token, i in sorted(vocab.items(), key=lambda item: item[1]):
            f.write(base64.b64encode(bytes(byte_of[c] for c in token)) + b" %d\n" % i)
    os.environ["TIKTOKEN_ENCODINGS_BASE"] = folder
    from vllm.entrypoints.openai.parser.harmony_utils import get_encoding
    return get_encoding()


def arguments_of(text):
    """As a value to compare, where they are JSON: beyond 2^53 numbers are as near as doubles are."""
    def near(digits):
        return int(digits) if abs(int(digits)) <= 2 ** 53 else float(digits)

    def never(word):
        raise ValueError(word)

    try:
        return json.loads(text, parse_int=near, parse_constant=never)
    except ValueError:
        return text


def without(text, marks, instead=""):
    return re.sub("|".join(re.escape(m) for m in sorted(marks, key=len, reverse=True)), instead, text)


class Answer:
    """What was found, in a form to compare: white space around reasoning and content is the format's."""

    def __init__(self, reasoning, content, calls):
        self.reasoning, self.content = (reasoning or "").strip(), (content or "").strip()
        self.raw = calls
        self.calls = [(name, arguments_of(a)) for name, a in calls]

    def __eq__(self, other):
        return (self.reasoning, self.content, self.calls) == (other.reasoning, other.content, other.calls)

    def __repr__(self):
        return repr((self.reasoning, self.content, self.raw))

    def text(self):
        return " ".join([self.reasoning, self.content, *(part for call in self.raw for part in call)])

    def without(self, marks):
        """With all marks taken out, those in values too, and all white space."""
        bare = lambda text: "".join(without(text, marks).split())  # noqa: E731
        return Answer(bare(self.reasoning), bare(self.content), [(bare(name), bare(arguments)) for name, arguments in self.raw])


class Vllm:
    """Its parsers, as --reasoning-parser and --tool-call-parser name them."""

    def __init__(self, encoding):
        self.encoding, self.classes = encoding, {}

    def parser(self, case):
        form = FORMATS[case.parser]
        names = {"tool_parser_name": form.tools, "reasoning_parser_name": None if case.thinks is None else form.reasoning}
        if (case.parser, case.thinks) not in self.classes:
            self.classes[case.parser, case.thinks] = ParserManager.get_parser(**names, enable_auto_tools=True, is_harmony=case.parser == "harmony")
        tokenizer = self.encoding if case.parser == "harmony" else Tokenizer(form.marks)
        return self.classes[case.parser, case.thinks](tokenizer, REQUEST.tools, chat_template_kwargs={"enable_thinking": case.thinks, "thinking": case.thinks})

    def answer(self, case):
        ids = self.encoding.encode(case.text, allowed_special="all") if case.parser == "harmony" else []
        reasoning, content, calls = self.parser(case).parse(case.text, REQUEST, True, ids)
        return Answer(reasoning, content, [(c.name, c.arguments) for c in calls or []])


# Words that the formats bring, and names that some texts have for a value.
STRUCTURE = {"name", "arguments", "functions", "function", "json", "parameter", "None", "analysis", "commentary", "final", "assistant", "to", "code", "browser", "search", "python"}


def letters(text):
    """Those of a text's words, of which the format's own are left out; JSON's escapes stand for what they mean."""
    text = re.sub(r"\\u([0-9a-f]{4})", lambda m: chr(int(m[1], 16)), text)
    found = re.findall(r"(?<!\d)[^\W\d_]+|5", re.sub(r'\\[nrtbf"\\/]', " ", text))
    return collections.Counter("".join(w for w in found if w not in STRUCTURE).lower())


def loses(case, answer):
    """Whether letters of the text are not in the answer."""
    marks = FORMATS[case.parser].marks
    return bool(letters(without(case.text, marks, " ")) - letters(without(answer.text(), marks, " ")))


def acceptable(calls):
    """Whether somebody can act on them."""
    return all(isinstance(arguments, dict) and all("<" not in key for key in arguments) and re.fullmatch(r"[\w.-]+", name) for name, arguments in calls)


def as_vllm_gives(case, mine):
    """What vLLM leaves of an answer: its parsers of GLM and MiniMax drop calls of functions that the request does not declare, its parsers of DeepSeek those with a
    line feed in the arguments; those of Kimi and Mistral change JSON to the types that are declared."""
    calls = mine.raw
    if case.parser in ("glm45", "minimax_m2"):
        calls = [c for c in calls if c[0] in TOOLS]
    elif case.parser.startswith("deepseek"):
        calls = [c for c in calls if "\n" not in c[1]]
    elif case.parser in ("kimi_k2", "mistral"):
        calls = [(name, dumps(ParserEngine._coerce_dict(json.loads(text), TOOLS.get(name, {}))[0])) for name, text in calls]
    return Answer(mine.reasoning, mine.content, calls)


def of_harmony(case, mine, theirs):
    lines = lambda answer: collections.Counter(answer.reasoning.split("\n"))  # noqa: E731
    if mine.calls == theirs.calls and mine.content == theirs.content and " to=browser.search" in case.text and not lines(theirs) - lines(mine) - collections.Counter([""]):
        return "a message to a built-in tool"
    untouched = mine == Answer(None, case.text, [])
    if "<|start|>" in theirs.text() and ("<|start|>" not in mine.text() or untouched):
        return "a message without an end"
    if "missing <|channel|>" in case.tags and untouched:
        return "a malformed call"
    return None


def of_reasoning(case, mine, theirs):
    form = FORMATS[case.parser]
    opened = case.prompt.rstrip().endswith(form.open) or case.text.lstrip().startswith(form.open)
    unread = case.thinks and not opened and not mine.reasoning and (form.open in case.text or form.close not in case.text or form.think != "always")
    if unread or form.open in mine.content:
        return "a thought that does not stand first"
    if case.thinks and form.close not in case.text:
        if len(mine.calls) > len(theirs.calls) and not theirs.content and without(theirs.reasoning, [form.open]).strip().startswith(mine.reasoning):
            return "a call that ends an open thought"
        if not mine.calls and not mine.content and not loses(case, mine):
            return "an open thought"
    if mine.reasoning.startswith(theirs.reasoning) and any(mark in mine.reasoning[len(theirs.reasoning):] for mark in form.marks):
        return "a mark of a call in a thought"
    return None


def of_calls(case, mine, theirs):
    form = FORMATS[case.parser]
    less, same = as_vllm_gives(case, mine).without(form.marks), theirs.without(form.marks)
    if less.reasoning == same.reasoning and less.calls == same.calls and less.content.startswith(same.content):
        return "text between and behind calls" if less.content != same.content else "a mark too many" if len(mine.calls) == len(theirs.calls) else "a call that vLLM drops"
    if any(mark in text for mark in form.marks for _, text in mine.raw):
        return "a mark in a string"
    if case.parser.startswith("deepseek") and any(tag.startswith("stray <｜tool▁call▁begin｜>") for tag in case.tags):
        return "a call that vLLM misreads"
    if case.meaning is None and (loses(case, theirs) or not acceptable(theirs.calls)):
        return "a call that vLLM misreads" if mine.calls else "a malformed call"
    if case.meaning is None and not mine.calls:
        if "NaN" in case.tags:
            return "a malformed call"
        if case.tags & {"cut", "missing </tool_call>"} or case.text.rstrip().endswith(tuple(form.marks)):
            return "a call that was cut off"
    return None


def difference(case, mine, theirs):
    """The name of the deliberate difference (docs/requests.md), or None."""
    found = of_harmony(case, mine, theirs) if case.parser == "harmony" else of_reasoning(case, mine, theirs)
    return found or (None if loses(case, mine) else of_calls(case, mine, theirs))


def main():
    writer = Writer(random.Random(common.seed()))
    with tempfile.TemporaryDirectory() as folder:
        vllm = Vllm(harmony_encoding(folder))
    names = sorted(name for name in FORMATS if name != "harmony" or vllm.encoding)
    cases = [writer.case(names) for _ in range(common.cases(2000))]
    lines = [{"parser": FORMATS[c.parser].name, "prompt": c.prompt, "tools": DECLARED, "text": c.text} for c in cases]
    mismatches, found = [], collections.Counter()
    for case, got in zip(cases, common.answers_of([], lines)):
        mine = Answer(got["reasoning_content"], got["content"], [(c["name"], c["arguments"]) for c in got["tool_calls"]])
        theirs = vllm.answer(case)
        how = "as vLLM" if mine == theirs else difference(case, mine, theirs)
        meant = case.meaning and Answer(*case.meaning[:2], [(name, dumps(arguments)) for name, arguments in case.meaning[2]])
        if how is None or how != "as vLLM" and meant and mine != meant or got["plain"] and got["content"] != case.text:
            mismatches.append(f"{case.parser} {sorted(case.tags)} {case.prompt!r}\n  {case.text!r}\n  vLLM:   {theirs}\n  moegen: {mine}\n  meant:  {meant}")
        found[how] += 1
    more = "" if vllm.encoding else "; without harmony: no tokenizer of gpt-oss"
    common.report("parses", len(cases), mismatches, "; " + ", ".join(f"{how}: {n}" for how, n in found.most_common()) + more)


if __name__ == "__main__":
    main()
