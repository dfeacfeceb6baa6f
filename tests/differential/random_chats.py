"""Random conversations through chat templates: moegen must give the prompt that transformers' apply_chat_template gives, or refuse what it refuses.

The templates: those of ../shared (MOEGEN_SHARED), some short ones below with what several families write, and all *.jinja of MOEGEN_TEMPLATES.
"""
import copy
import datetime
import json
import os
import pathlib
import random
import tempfile

import common

transformers = common.need("transformers")
tokenizers = common.need("tokenizers")
import transformers.utils.chat_template_utils as chat_template_utils  # noqa: E402

NOW = "2027-11-30T23:05:59"
TOKENS = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}


class Clock:
    """strftime_now asks it."""

    @staticmethod
    def now():
        return datetime.datetime.fromisoformat(NOW)


SHORT = {
    "chatml": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
              "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "inst": "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
            "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if message['role'] == 'user' %}"
            "{{ '[INST] ' + message['content'].strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + message['content'] + ' ' + eos_token }}"
            "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
    "parts": "{%- for m in messages %}<|{{ m.role }}|>{% if m.content is string %}{{ m.content }}{% elif m.content is iterable and m.content is not mapping %}"
             "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text | trim }}{% else %}<{{ p.type }}>{% endif %}{% endfor %}{% endif %}\n{%- endfor %}\n",
    "calls": "{%- macro call(c) -%}\n{%- set f = c.function if c.function is defined else c %}\n{{- {'name': f.name, 'arguments': f.arguments} | tojson(indent=2) }}\n"
             "{%- endmacro -%}\n{%- if tools %}{% for t in tools %}{{ t | tojson(sort_keys=true, separators=(',', ':')) }}\n{% endfor %}{% endif %}"
             "{% for m in messages %}[{{ m['role'] }}]{{ m.content or '' }}{% for c in m.tool_calls or [] %}\n    {{ call(c) | indent(4) }}{% endfor %}\n{% endfor %}",
    "thinking": "{%- set ns = namespace(last=-1) %}{% for m in messages[::-1] %}{% if ns.last < 0 and m.role == 'user' %}"
                "{% set ns.last = (messages | length) - 1 - loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}<{{ m.role }}>"
                "{%- if m.role == 'assistant' %}{% set r = m.reasoning_content or m.thinking or '' %}{% set c = m.content or '' %}{% if '</think>' in c %}"
                "{% set r = c.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}{% set c = c.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
                "{% if loop.index0 > ns.last and r %}<think>{{ r | trim }}</think>{% endif %}{{ c }}{% else %}{{ m.content }}{% endif %}{% endfor %}"
                "{% if add_generation_prompt %}<assistant>{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}{% endif %}",
    "documents": "{% if documents %}{% for d in documents %}{{ loop.index }}: {{ d.title | default('none', true) }}\n{{ d['text'] if 'text' in d else d }}\n{% endfor %}"
                 "{% endif %}{{ strftime_now('%d %b %Y, %A %-d %H:%M') }}{{ messages | map(attribute='role') | join(',') }}{{ messages[-1] }}{{ messages[-1].content }}",
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}{% else %}{{ m.content }}"
                  "{% endif %}{% if not loop.last %} {% endif %}{% endfor %}",
}


class Talk(common.Choices):
    """Random conversations: mostly of the usual form."""

    WORDS = ["Hello", "  padded  ", "Straße", "日本語", "a\nb\n", "<think>", "</think>", "\n\n", "x < y & z", "\"quoted\"", "it's", "{{ x }}", "{% if %}", "<|im_end|>",
             "[INST]", "<tool_call>", "😀", "\\n", "C:\\path", "\t", "1.5", "é", "ends here.", "\u2028", "\x7f", "<bos>", "", " "]

    def text(self):
        if self.chance(0.08):
            return "<think>" + self.words() + "</think>" + self.words()
        return self.words()

    def words(self):
        return self.one("", " ").join(self.rng.choice(self.WORDS) for _ in range(self.rng.randint(0, 4)))

    def value(self, depth=2):
        scalars = [1, -3, 2.5, 1e22, 0.1, 1e-7, True, False, None, "x", "é\"<", self.words(), 12345678901, 100.0]
        if depth == 0 or self.chance(0.6):
            return self.rng.choice(scalars)
        if self.chance(0.5):
            return [self.value(depth - 1) for _ in range(self.rng.randint(0, 3))]
        return {self.one("a", "b", "city", "items", "x y", "é"): self.value(depth - 1) for _ in range(self.rng.randint(0, 3))}

    def arguments(self):
        return {self.one("city", "a", "b", "list", "text", "flag"): self.value() for _ in range(self.rng.randint(0, 3))}

    def schema(self, depth=2):
        kind = self.one("string", "number", "integer", "boolean", "null", "array", "object")
        s = {"type": kind}
        if self.chance(0.5):
            s["description"] = self.text()
        if kind == "string" and self.chance(0.3):
            s["enum"] = ["a", "b \"c\""]
        if self.chance(0.2):
            s["default"] = self.value(1)
        if self.chance(0.1):
            s["nullable"] = True
        if kind == "array" and self.chance(0.8):
            s["items"] = self.schema(depth - 1) if depth > 0 else {"type": "string"}
        if kind == "object" and depth > 0:
            s["properties"] = {name: self.schema(depth - 1) for name in self.rng.sample(["a", "b", "city", "list"], self.rng.randint(0, 3))}
            if self.chance(0.4):
                s["required"] = list(s["properties"])[:1]
            if self.chance(0.2):
                s["additionalProperties"] = self.one(False, {"type": "string"})
        if self.chance(0.06):
            s = {self.one("anyOf", "oneOf", "allOf"): [{"type": "string"}, {"type": "null"}]}
        if self.chance(0.06):
            s["type"] = ["string", "null"]
        return s

    def tool(self):
        function = {"name": self.one("get_weather", "add", "search.web", "python", "browser"), "description": self.text()}
        if self.chance(0.93):
            function["parameters"] = {"type": "object", "properties": {n: self.schema() for n in self.rng.sample(["city", "a", "b", "list"], self.rng.randint(0, 3))}}
            if self.chance(0.6):
                function["parameters"]["required"] = list(function["parameters"]["properties"])[:2]
        if self.chance(0.1):
            function["return"] = {"type": "string", "description": "what comes back"}
        if self.chance(0.1):
            function["strict"] = True
        return function if self.chance(0.04) else {"type": "function", "function": function}

    def content(self):
        if self.chance(0.85):
            return self.text()
        return [self.one({"type": "text", "text": self.text()}, {"type": "text", "text": self.text()}, {"type": "image"}, {"type": "image_url", "image_url": {"url": "u"}},
                         {"type": "video", "video": "v"}) for _ in range(self.rng.randint(0, 3))]

    def call(self, n):
        c = {"type": "function", "function": {"name": self.one("get_weather", "add"), "arguments": self.arguments()}}
        if self.chance(0.12):
            c["function"]["arguments"] = json.dumps(c["function"]["arguments"])
        if self.chance(0.7):
            c["id"] = self.one(f"call_{n}", f"functions.add:{n}", f"abcdefgh{n % 10}")
        return c if self.chance(0.95) else c["function"]

    def assistant(self):
        m = {"role": "assistant", "content": self.content()}
        if self.chance(0.25):
            m[self.one("reasoning_content", "reasoning_content", "thinking", "reasoning")] = self.text()
        if self.chance(0.3):
            m["tool_calls"] = [self.call(n) for n in range(self.rng.randint(0, 3))]
            if self.chance(0.3):
                m.pop("content")
            elif self.chance(0.5):
                m["content"] = ""
        return m

    def answers(self, m):
        for c in m.get("tool_calls") or []:
            t = {"role": "tool", "content": self.one(self.text, lambda: json.dumps(self.value()), self.content)}
            if "id" in c and self.chance(0.8):
                t["tool_call_id"] = c["id"]
            if self.chance(0.5):
                t["name"] = c.get("function", c)["name"]
            yield t

    def messages(self):
        out = [{"role": self.one("system", "system", "developer"), "content": self.content()}] if self.chance(0.4) else []
        if self.chance(0.06):
            return out + [{"role": self.one("user", "assistant", "tool", "system", "critic", "function"), "content": self.content()} for _ in range(self.rng.randint(1, 4))]
        for _ in range(self.rng.randint(1, 3)):
            out.append({"role": "user", "content": self.content()})
            for _ in range(self.rng.randint(0, 2)):
                m = self.assistant()
                out.append(m)
                if not m.get("tool_calls"):
                    break
                out += self.answers(m)
        return out

    def kwargs(self):
        options = {"enable_thinking": [True, False], "thinking": [True, False, "on"], "reasoning_effort": ["low", "high", "medium", "none"], "date_string": ["26 Jul 2024"],
                   "tools_in_user_message": [True, False], "builtin_tools": [["python"], ["browser", "python"]], "model_identity": ["You are X."], "xml_tools": [["a"]],
                   "custom_tools": [None], "keep_past_thinking": [True], "clear_thinking": [False, True], "add_vision_id": [True], "system_message": ["S"],
                   "safe_prompt": [True], "truncate_history_thinking": [False], "preserve_thinking": [True], "available_tools": [[]], "controls": [{"length": "long"}],
                   "reasoning": [True, False], "citations": [True], "thinking_budget": [0, 512, -1], "enable_citations": [True], "continue_message": [True]}
        return {k: self.rng.choice(options[k]) for k in self.rng.sample(sorted(options), self.rng.choice([0, 0, 1, 2]))}

    def request(self):
        r = {"messages": self.messages(), "now": NOW}
        if self.chance(0.4):
            r["tools"] = [self.tool() for _ in range(self.rng.randint(1, 3))]
        if self.chance(0.1):
            r["documents"] = [{k: self.text() for k in self.rng.sample(["title", "text", "doc_id"], self.rng.randint(1, 3))} for _ in range(self.rng.randint(1, 3))]
        r["add_generation_prompt"] = self.chance(0.5)
        if not r["add_generation_prompt"] and self.chance(0.3):
            r["continue_final_message"] = True
        if self.chance(0.5):
            r["chat_template_kwargs"] = self.kwargs()
        return r


def templates():
    """(name, template, or a dict of named ones)"""
    yield from SHORT.items()
    yield "named", {"default": SHORT["chatml"], "tool_use": SHORT["calls"], "rag": SHORT["documents"]}
    data = pathlib.Path(os.environ.get("MOEGEN_SHARED", pathlib.Path(__file__).parents[3] / "shared")) / "data"
    for config in sorted(data.glob("tokenizers/*/tokenizer_config.json")):
        template = json.loads(config.read_text()).get("chat_template")
        if template:
            yield config.parent.name, template if isinstance(template, str) else {t["name"]: t["template"] for t in template}
    folders = [data / "templates"] + [pathlib.Path(p) for p in os.environ.get("MOEGEN_TEMPLATES", "").split(":") if p]
    for file in sorted(f for folder in folders for f in folder.glob("*.jinja")):
        yield file.stem, file.read_text()


def expected(tokenizer, request):
    r = copy.deepcopy(request)
    try:
        return {"text": tokenizer.apply_chat_template(r["messages"], tools=r.get("tools"), documents=r.get("documents"), tokenize=False,
                                                      add_generation_prompt=r["add_generation_prompt"], continue_final_message=r.get("continue_final_message", False),
                                                      **r.get("chat_template_kwargs", {}))}
    except Exception as e:  # noqa: BLE001  # whatever Python raises there
        return {"error": {"message": str(e), "raised": type(e).__name__ == "TemplateError"}}


def same(theirs, mine):
    if "text" in theirs:
        return mine.get("text") == theirs["text"]
    return "text" not in mine and (not theirs["error"]["raised"] or theirs["error"]["message"] in mine["error"]["message"])


def main():
    rng = random.Random(common.seed())
    chat_template_utils.datetime = Clock
    all_templates = list(templates())
    per_template = max(1, common.cases(1500) // len(all_templates))
    mismatches, texts = [], 0
    for name, template in all_templates:
        talk = Talk(rng)
        requests = [talk.request() for _ in range(per_template)]
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(tokenizers.models.BPE()), chat_template=template, **TOKENS)
        with tempfile.TemporaryDirectory() as folder:
            config = dict(TOKENS, chat_template=template if isinstance(template, str) else [{"name": n, "template": t} for n, t in template.items()])
            pathlib.Path(folder, "tokenizer_config.json").write_text(json.dumps(config))
            pathlib.Path(folder, "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}))
            got = common.answers(folder, requests)
        for request, mine in zip(requests, got):
            theirs = expected(tokenizer, request)
            texts += "text" in theirs
            if not same(theirs, mine):
                mismatches.append(f"{name}: {json.dumps(request, ensure_ascii=False)}\n  transformers: {json.dumps(theirs, ensure_ascii=False)}\n"
                                  f"  moegen:       {json.dumps(mine, ensure_ascii=False)}")
    common.report("chats", per_template * len(all_templates), mismatches, f"; {len(all_templates)} templates, {texts} render")


if __name__ == "__main__":
    main()
