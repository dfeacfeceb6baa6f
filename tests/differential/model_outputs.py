"""Random outputs of models, in the formats that moegen and vLLM read: whole ones with their meaning, and broken ones."""
import collections
import json
import re

import common

TOOLS = {
    "find": {"title": {"type": "string"}, "count": {"type": "integer"}, "ratio": {"type": "number"}, "flag": {"type": "boolean"}, "options": {"type": "object"},
             "items": {"type": "array"}, "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "either": {"type": ["string", "integer"]},
             "level": {"enum": ["low", 3]}, "any": {}},
    "go_home": {},
    "get_weather": {"city": {"type": "string"}, "days": {"type": "integer"}},
}
DECLARED = [{"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}} for name, properties in TOOLS.items()]

# `think`: whether the model always thinks, opens it itself, or does so where the prompt says so; `switch`: whether a request can turn it off.
Format = collections.namedtuple("Format", "name reasoning tools open close think switch marks write")
Case = collections.namedtuple("Case", "parser prompt thinks text meaning tags")  # the meaning: reasoning, content, calls; None where something is odd


def dumps(value, **options):
    return json.dumps(value, ensure_ascii=False, **options)


THINK = ["<think>", "</think>"]
DEEPSEEK = ["<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"]
FORMATS = {
    "qwen3": Format("qwen3", "qwen3", "hermes", *THINK, "always", True, [*THINK, "<tool_call>", "</tool_call>"], "hermes"),
    "qwen3_coder": Format("qwen3_coder", "qwen3", "qwen3_coder", *THINK, "always", True,
                          [*THINK, "<tool_call>", "</tool_call>", "<function=", "</function>", "<parameter=", "</parameter>"], "coder"),
    "deepseek_r1": Format("deepseek_r1", "deepseek_r1", "deepseek_v3", *THINK, "always", False, [*THINK, *DEEPSEEK, "```json", "```"], "deepseek_v3"),
    "deepseek_v3": Format("deepseek_v3", "deepseek_v3", "deepseek_v3", *THINK, "hybrid", True, [*THINK, *DEEPSEEK, "```json", "```"], "deepseek_v3"),
    "deepseek_v31": Format("deepseek_v31", "deepseek_v3", "deepseek_v31", *THINK, "hybrid", True, [*THINK, *DEEPSEEK], "deepseek_v31"),
    "glm45": Format("glm45", "glm45", "glm45", *THINK, "always", True,
                    [*THINK, "<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"], "glm"),
    "minimax_m2": Format("minimax_m2", "minimax_m2", "minimax_m2", *THINK, "always", False,
                         [*THINK, "<minimax:tool_call>", "</minimax:tool_call>", "<invoke name=", "</invoke>", "<parameter name=", "</parameter>"], "minimax"),
    "kimi_k2": Format("kimi_k2", "kimi_k2", "kimi_k2", *THINK, "always", True,
                      [*THINK, "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>", "<|tool_call_end|>", "<|tool_call_argument_begin|>"], "kimi"),
    "mistral": Format("mistral", "mistral", "mistral", "[THINK]", "[/THINK]", "opens", False, ["[THINK]", "[/THINK]", "[TOOL_CALLS]", "[ARGS]"], "mistral"),
    "mistral_list": Format("mistral", "mistral", "mistral", "[THINK]", "[/THINK]", "opens", False, ["[THINK]", "[/THINK]", "[TOOL_CALLS]"], "mistral_list"),
    "harmony": Format("harmony", "openai_gptoss", "openai", "", "", "always", False,
                      ["<|start|>assistant", "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|call|>", "<|return|>"], None),
}


class Writer(common.Choices):
    """Random answers of a model."""

    WORDS = ["Paris", "two words", "日本語", "line\nbreak", '"quoted"', "C:\\path", "x < y & z", "</bold>", "😀", "  padded ", "", "{", "}]", "[one]", "5", "true", "null",
             "it's", "&amp;", "tab\there", "Straße", "a\n\nb", "`code`", "\n"]
    PROSE = ["Let me see.", "Straße 日本", "I will\nlook.", "x < y", "So {that}.", "1. First", "'quoted'", "😀 fine", "```py\ncode\n```"]

    ODD = [" 7 ", "+5", "007", "-0", "1e3", "5.0", "True", "FALSE", "1", "0", "null", "None", "NULL", "nan", "inf", "[1, 2", "{'key': 1}", '"quoted"', ".5", "1e999", "abc", "",
           " true\n", "[1]", " {} ", "-"]  # how a model may write what is no string

    def words(self):
        if self.chance(0.02):
            self.tags.add("a mark in a value")
            return self.one("", "see ", "a\n") + self.rng.choice(self.marks) + self.one("", " there", "\nb")
        return self.one("", " ").join(self.rng.choice(self.WORDS) for _ in range(self.rng.randint(1, 3)))

    def value(self, kind, depth=2):
        scalars = {"string": self.words, "integer": lambda: self.one(0, -3, 7, 12345678901234567890), "number": lambda: self.one(1.5, -2, 0.25, 1e-7, 100),
                   "boolean": lambda: self.chance(0.5), "null": lambda: None, "label": lambda: self.one("low", "two words", "Straße 5", "<b>\n")}
        if kind in scalars:
            return scalars[kind]()
        inner = lambda: self.value(self.one("string", "integer", "number", "boolean", "null", *(["object", "array"] if depth else [])), depth - 1)  # noqa: E731
        if kind == "array":
            return [inner() for _ in range(self.rng.randint(0, 3))]
        return {self.one("key", "two words", "é", "city"): inner() for _ in range(self.rng.randint(0, 3))}

    def call(self):
        name = self.one("find", "find", "find", "go_home", "get_weather", "unknown")
        schema = TOOLS.get(name, {"where": {"type": "string"}})
        arguments = {}
        for key in self.rng.sample(sorted(schema), self.rng.randint(0, min(4, len(schema)))):
            kind = {"maybe": self.one("label", "null"), "either": self.one("label", "integer"), "level": self.one("label", "integer"), "any": "string"}.get(key) or schema[key]["type"]
            arguments[key] = self.value(kind)
        if name == "find" and self.chance(0.05):
            arguments["undeclared"] = self.words()
        return name, arguments

    def prose(self):
        return self.one(" ", "\n", "\n\n").join(self.rng.choice(self.PROSE) for _ in range(self.rng.randint(1, 3)))

    # ---- the formats: what stands for calls

    def object_text(self, arguments):
        return self.one(dumps(arguments), dumps(arguments), json.dumps(arguments), dumps(arguments, separators=(",", ":")), dumps(arguments, indent=2))

    def hermes(self, calls):
        line = self.one("\n", "\n", "", " ")
        return self.one("\n", "", "\n\n").join(
            f"<tool_call>{line}{self.one(*[f'{{{a}, {b}}}' for a, b in [self.members(c), reversed(self.members(c))]])}{line}</tool_call>" for c in calls)

    def members(self, call):
        return [f'"name": {dumps(call[0])}', f'"arguments": {self.object_text(call[1])}']

    def tag_text(self, value):
        if self.chance(0.05):
            self.tags.add("an odd value")
            return self.rng.choice(self.ODD)
        return value if isinstance(value, str) else dumps(value)

    def coder(self, calls):
        line = self.one("\n", "\n", "\n", "") if all(str(v).strip("\n") == str(v) for _, a in calls for v in a.values()) else "\n"
        return self.one("\n", "").join(f"<tool_call>\n<function={n}>\n" + "".join(f"<parameter={k}>{line}{self.tag_text(v)}{line}</parameter>\n" for k, v in a.items()) +
                                       "</function>\n</tool_call>" for n, a in calls)

    def glm(self, calls):
        line = self.one("\n", "\n", "")
        return self.one("\n", "").join(f"<tool_call>{n}{line}" + "".join(
            f"<arg_key>{k}</arg_key>{line}<arg_value>{self.tag_text(v)}</arg_value>{line}" for k, v in a.items()) + "</tool_call>" for n, a in calls)

    def minimax(self, calls):
        quote = self.one('"', '"', '"', "'", "")
        blocks = [f"<invoke name={quote}{n}{quote}>" + self.one("\n", "") + "".join(
            f"<parameter name={quote}{k}{quote}>{self.tag_text(v)}</parameter>\n" for k, v in a.items()) + "</invoke>\n" for n, a in calls]
        return "<minimax:tool_call>\n" + self.one("", "</minimax:tool_call>\n<minimax:tool_call>\n" if self.chance(0.2) else "").join(blocks) + "</minimax:tool_call>"

    def deepseek_v3(self, calls):
        return "<｜tool▁calls▁begin｜>" + self.one("\n", "").join(
            f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{n}\n```json\n{self.object_text(a)}\n```<｜tool▁call▁end｜>" for n, a in calls) + "<｜tool▁calls▁end｜>"

    def deepseek_v31(self, calls):
        return "<｜tool▁calls▁begin｜>" + "".join(f"<｜tool▁call▁begin｜>{n}<｜tool▁sep｜>{self.object_text(a)}<｜tool▁call▁end｜>" for n, a in calls) + "<｜tool▁calls▁end｜>"

    def kimi(self, calls):
        space = self.one("", "", " ", "\n")
        return "<|tool_calls_section_begin|>" + space + "".join(
            f"<|tool_call_begin|>{space}{self.one('functions.', 'functions.', '')}{n}:{i}{space}<|tool_call_argument_begin|>{space}{self.object_text(a)}{space}<|tool_call_end|>{space}"
            for i, (n, a) in enumerate(calls)) + "<|tool_calls_section_end|>"

    def mistral(self, calls):
        between = self.one("[ARGS]", "")
        return "".join(f"[TOOL_CALLS]{n}{between}{self.object_text(a)}" for n, a in calls)

    def mistral_list(self, calls):
        return "[TOOL_CALLS]" + self.one("", " ") + "[" + ", ".join("{" + ", ".join(self.members(c)) + "}" for c in calls) + "]"

    # ---- answers

    def broken(self, text):
        """`text` with one thing wrong, and its name."""
        there = [m for m in self.marks if m in text]
        mark = self.rng.choice(there) if there else ""
        at = self.rng.choice([m.start() for m in re.finditer(re.escape(mark), text)]) if mark else 0
        cut = self.rng.randrange(len(text) + 1)
        quote = self.rng.choice([m.start() for m in re.finditer('["{}:,]', text)] or [0])
        return self.one(("cut", text[:cut]), ("cut", text[:cut]), ("missing " + mark, text[:at] + text[at + len(mark):]), ("doubled " + mark, text[:at] + mark + text[at:]),
                        ("garbage before " + mark, text[:at] + "Garbage" + text[at:]), ("garbage behind " + mark, text[:at + len(mark)] + "Garbage" + text[at + len(mark):]),
                        ("space at " + mark, text[:at] + " \n" + text[at:]), ("without one character", text[:quote] + text[quote + 1:]), ("stray " + mark, self.prose() + mark + text),
                        ("stray behind " + mark, text + mark), ("a comma", text.replace("}", ",}", 1)), ("single quotes", text.replace('"', "'")), ("NaN", text.replace(": 7", ": NaN", 1)))

    def messages(self):
        """Of gpt-oss: the text, and what it means."""
        text, reasoning, content, calls = "", [], [], []
        for _ in range(self.rng.randint(1, 4)):
            text += "<|start|>assistant" if text else ""
            kind = self.one("analysis", "analysis", "commentary", "final", "call", "call", "python")
            body, end = self.prose(), "<|end|>"
            if kind == "call":
                name, arguments = self.call()
                to, channel = f" to={self.one('functions.', 'functions.', 'functions.', '')}{name}", self.one("commentary", "analysis")
                content_type = self.one(" <|constrain|>json", "<|constrain|>json", " json", " code", "")
                text += self.one(f"<|channel|>{channel}{to}{content_type}", f"{to}<|channel|>{channel}{content_type}")
                body, end = self.object_text(arguments), self.one("<|call|>", "<|call|>", "<|end|>")
                calls.append((name, arguments))
            elif kind == "python":
                text += self.one("<|channel|>analysis to=python code", "<|channel|>commentary to=browser.search", "<|channel|>analysis to=python")
                end = "<|call|>"
                reasoning.append(body)
            else:
                text += f"<|channel|>{kind}"
                (reasoning if kind == "analysis" else content).append(body)
            text += "<|message|>" + body + end
        if self.chance(0.4):
            text = text[:-len(end)] + self.one("", "<|return|>")
        return text, ("\n".join(reasoning), "\n".join(content), calls)

    def tagged(self, form):
        """Of the others: prompt, whether vLLM's parser of reasoning runs and is told to expect some, text, meaning."""
        calls = [self.call() for _ in range(self.one(0, 1, 1, 1, 2, 3))]
        before = self.prose() + self.one("", "\n", "\n\n", " ") if self.chance(0.5) or not calls else self.one("", "", "\n", "\n\n")
        behind = self.one("\n", " ") + self.prose() if calls and self.chance(0.1) else self.one("", "", "", "\n")
        written = getattr(self, form.write)(calls) if calls else ""
        prompt, text, meaning = "<|user|>Hi<|assistant|>", before + written + behind, ("", before + behind, calls)
        kind = self.one("none", "open", "opened", "opened", "unclosed", "called within", "closed" if form.switch else "none", "unopened" if form.think == "always" else "opened")
        self.tags.add(kind)
        if kind == "none":
            return prompt, None, text, meaning
        if kind == "closed":
            return prompt + form.open + "\n\n" + form.close + self.one("", "\n\n"), False, text, meaning
        if kind in ("open", "unclosed", "called within") and form.think != "opens":
            prompt += form.open + self.one("", "\n")
        opened = "" if kind == "unopened" or prompt.rstrip().endswith(form.open) and self.chance(0.8) else form.open
        thought = self.one("", "\n") + self.prose() + self.one("", "\n")
        if kind == "unclosed":
            return prompt, True, opened + thought, (thought, "", [])
        if kind == "called within":  # a thought that goes on behind a call has called nothing
            whole = thought + written + behind
            return prompt, True, opened + whole, (whole, "", []) if behind.strip() else (thought, "", calls)
        return prompt, True, opened + thought + form.close + self.one("", "\n", "\n\n") + text, (thought, before + behind, calls)

    def case(self, names):
        name = self.rng.choice(names)
        form = FORMATS[name]
        self.tags, self.marks = set(), form.marks
        if name == "harmony":
            prompt, thinks, (text, meaning) = "<|start|>assistant", True, self.messages()
        else:
            prompt, thinks, text, meaning = self.tagged(form)
        if self.chance(0.4):
            what, broken = self.broken(text)
            if broken != text:
                self.tags.add(what)
                text, meaning = broken, None
        if self.tags & {"an odd value", "a mark in a value"}:
            meaning = None
        return Case(name, prompt, thinks, text, meaning, self.tags)
