"""Random chat templates: moegen must render what Jinja2 renders with the settings of transformers, or refuse what Jinja2 refuses."""
import copy
import datetime
import json
import random
import re
import tempfile

import common

jinja2 = common.need("jinja2")
sandbox = common.need("jinja2.sandbox")
import jinja2.ext  # noqa: E402

NOW = "2027-11-30T23:05:59"
CONTEXT = {
    "x": "X", "y": 4, "s": "Hello World", "t": "a,b,,c", "e": "", "u": "é日本 Straße\n x\t", "h": "<b>&\"'</b>", "n": 3, "m": -7, "z": 0, "f": 2.5, "g": -0.125,
    "yes": True, "no": False, "none_": None, "l": [3, 1, 2], "w": ["b", "A", "c", "a"], "mixed": [1, "a", None, 2.5, [1, 2], {"k": "v"}], "empty": [],
    "d": {"b": 1, "a": "x", "items": 5, "k": [1, 2]}, "nested": [[1, [2, 3]], [], [[4]]],
    "rows": [{"a": 2, "b": "x", "c": {"d": 1}}, {"a": 1, "b": "Y"}, {"a": 2, "b": "z", "c": {"d": 3}}],
    "messages": [{"role": "system", "content": "Be brief. "}, {"role": "user", "content": "Hi\n"}, {"role": "assistant", "content": " Yo", "n": 1}],
}


def environment():
    """As transformers compiles a chat template (transformers/utils/chat_template_utils.py)."""

    class Generation(jinja2.ext.Extension):
        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

        def _body(self, caller):
            return caller()

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = datetime.datetime.fromisoformat(NOW).strftime
    return env


class Writer(common.Choices):
    """Writes templates. Variables a to c may be set; loops bind x, y and `loop`."""

    def __init__(self, rng):
        super().__init__(rng)
        self.in_loop = False

    def atom(self):
        if self.in_loop and self.rng.random() < 0.2:
            return self.one("loop.index", "loop.last", "loop.index0", "loop.revindex", "loop.length", "loop.first", "loop.cycle('p', 'q')", "loop.changed(x)",
                            "loop.previtem", "loop.nextitem", "loop.depth")
        return self.one(*CONTEXT, *CONTEXT, "x", "y", "a", "b", "c", "missing", "1", "0", "2", "-1", "5", "1.5", "1e3", "'a'", "'b,c'", '"x y"', "''",
                        "'é'", "true", "false", "none", "True", "[]", "{}", "()", "messages[0]", "rows[0]", "'%s-%s'",
                        "'{} {}'", "'a' 'b'", "range(3)", "range(1, 6, 2)", "namespace(q=1)", "dict(a=1)", "s.upper", "0x1f", "1_000")

    def number(self):
        return self.one("n", "m", "z", "1", "2", "3", "-1", "0", "l[0]", "f", "s|length")

    def text(self):
        return self.one("s", "t", "e", "u", "h", "'a'", "' pad '", "'Title case-word'", "x", "'a\\nb\\n'", "'%d'", "'b'", "','", "'l'", "(h|e)", "('<%s>&'|safe)")

    def items(self):
        return self.one("l", "w", "mixed", "empty", "rows", "messages", "nested", "d", "s", "d.items()", "d.values()", "t.split(',')", "range(4)",
                        "[1, 'a']", "rows|map(attribute='a')", "missing", "w|sort", "l|reverse", "d|items", "(1, 2)", "mixed[:3]")

    def expression(self, depth=2):
        if depth <= 0:
            return self.atom()
        e = lambda: self.one("{}", "({})", "({})").format(self.expression(depth - 1))  # noqa: E731
        return self.one(
            self.atom, self.atom, self.number, self.text, self.items, lambda: self.filtered(depth), lambda: self.filtered(depth), lambda: self.tested(depth), lambda: self.called(depth),
            lambda: f"{e()} {self.one('+', '-', '*', '/', '//', '%', '~', '==', '!=', '<', '>=', 'and', 'or', 'in', 'not in')} {e()}",
            lambda: f"({e()})", lambda: f"not {e()}", lambda: f"-{self.number()}", lambda: f"{e()} if {e()} else {e()}", lambda: f"{e()} if {e()}",
            lambda: f"{self.number()} {self.one('+', '-', '*', '/', '//', '%', '<', '==')} {self.number()}", lambda: f"{self.one('n', '2')} ** {self.number()}", lambda: f"[{e()}, {e()}]", lambda: f"({e()},)", lambda: f"{{{self.text()}: {e()}}}", lambda: f"({e()}, {e()})",
            lambda: f"{self.items()}[{self.number()}]", lambda: f"{self.items()}[{self.slice()}]", lambda: f"{self.text()}[{self.slice()}]",
            lambda: f"{self.one('d', 'rows[0]', 'messages[1]', 'x', 'loop', 's')}.{self.one('a', 'b', 'role', 'content', 'items', 'missing', 'index', 'n')}",
            lambda: f"{self.one('d', 'rows[0]', 'x')}['{self.one('a', 'b', 'items', 'missing')}']", lambda: f"{e()} == {e()} != {e()}",
            lambda: f"1 < {self.number()} <= 3", lambda: self.one("'%s'", "'%r|'", "'%5s'", "'%d'", "'%-4d|'", "'%05.1f'", "'%x'", "'%s%%'", "s", "('<%s>'|safe)", "('%r'|e)") + f" % {e()}", lambda: f"{self.text()} * {self.number()}", "rows.1.b")

    def slice(self):
        part = lambda: self.one("", "", "1", "-1", "2", "0", "n")  # noqa: E731
        return f"{part()}:{part()}" + self.one("", f":{self.one('', '2', '-1', '-2')}")

    def filtered(self, depth):
        value, n, t, items = self.expression(depth - 1), self.number, self.text, self.items
        on_text = self.one("upper", "lower", "title", "capitalize", "trim", "length", "e", "string", "list", "first", "last", "wordcount", "int", "float",
                           "tojson", "safe", "escape", "reverse", "urlencode", "striptags", lambda: f"trim({t()})", lambda: f"replace({t()}, {t()})",
                           lambda: f"replace({t()}, 'Z', 1)", lambda: f"indent({n()})", "indent(2, true)", "indent(width=1, blank=true)", lambda: f"center({n()})",
                           "truncate(5)", "truncate(7, true, '..', 0)", lambda: f"default({t()})", "default('D', true)", lambda: f"format({t()}, {n()})",
                           "int(7)", "int(0, 16)", "d", "forceescape", "wordwrap(7)", "wordwrap(5, false)", "wordwrap(4, true, '|', false)", "pprint")
        on_items = self.one("length", "list", "first", "last", "join", lambda: f"join({t()})", "join('-', attribute='a')", "sort", "sort(reverse=true)",
                            "sort(attribute='a')", "sort(case_sensitive=true)", "unique|list", "reverse|list", "map('upper')|list", "map(attribute='a')|list",
                            "map(attribute='c.d', default=0)|list", "map('default', 'q')|join", "select|list", "select('string')|list", "reject('none')|list",
                            "selectattr('a')|list", "selectattr('a', 'eq', 2)|list", "rejectattr('b', 'equalto', 'x')|map(attribute='b')|list", "sum",
                            "sum(attribute='a')", "sum(start=5)", "min", "max", "max(attribute='a')", "batch(2)|list", "batch(2, 'f')|list", "slice(2)|list",
                            "slice(3, 'f')|list", "tojson", "tojson(indent=2)", "tojson(sort_keys=true)", "dictsort", "dictsort(by='value')", "items|list",
                            "groupby('a')", "groupby('a')|map('first')|list", "groupby('b')|map(attribute='grouper')|list", "groupby('a')|map(attribute='list')|list",
                            "groupby('c.d', default=9)|list", "string", "count", "xmlattr", "attr('items')", "map('length')|list",
                            "select('in', l)|list", "pprint", "select('>', 1)|list")
        on_number = self.one("abs", "round", "round(1)", "round(1, 'floor')", "round(0, 'ceil')|int", "int", "float", "string", "filesizeformat",
                             "filesizeformat(true)", "tojson", "default(1)", lambda: f"round({n()})")
        return self.one(f"{t()}|{on_text}", f"{items()}|{on_items}", f"{n()}|{on_number}", f"({value})|{self.one(on_text, on_items, on_number)}",
                        f"{t()}|{on_text}|{self.one('upper', 'length', 'string', 'tojson', 'list')}", f"x|{self.one(on_text, on_items)}")

    def tested(self, depth):
        test = self.one("defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping", "sequence", "iterable", "callable",
                        "true", "false", "escaped", "odd", "even", "upper", "lower", "escaped", "divisibleby 2", "divisibleby(3)", "sameas none", "eq 3", "ne('a')",
                        "in l", "in [1, 's']", "gt 1", "lessthan(2)", "filter", "test", "== 2")
        return f"({self.expression(depth - 1)}) is {self.one('', 'not ')}{test}"

    def called(self, depth):
        t, n = self.text, self.number
        method = self.one("upper()", "lower()", "strip()", "split()", "title()", "capitalize()", "swapcase()", "isdigit()", "isalpha()", "isupper()", "islower()",
                          "isspace()", "splitlines()", "splitlines(true)", "casefold()", "istitle()", lambda: f"strip({t()})", lambda: f"lstrip({t()})",
                          lambda: f"rstrip({t()})", lambda: f"split({t()})", lambda: f"split({t()}, {n()})", lambda: f"rsplit({t()}, 1)", lambda: f"startswith({t()})",
                          lambda: f"endswith(({t()}, {t()}))", lambda: f"find({t()})", lambda: f"rfind({t()}, 1)", lambda: f"count({t()})",
                          lambda: f"replace({t()}, {t()})", lambda: f"replace({t()}, '_', {n()})", lambda: f"join({self.items()})", lambda: f"join(w)",
                          lambda: f"center({n()}, '*')", lambda: f"ljust({n()})", lambda: f"rjust(8, '.')", lambda: f"zfill({n()})", lambda: f"partition({t()})",
                          lambda: f"rpartition(',')", lambda: f"removeprefix({t()})", lambda: f"removesuffix({t()})", lambda: f"index({t()})", "expandtabs()",
                          "striptags()", "unescape()", "encode", "isidentifier()", "isdecimal()", "isnumeric()", "isalnum()")
        formats = self.one("'{}'", "'{0}{0}'", "'{:>5}|'", "'{:05.1f}'", "'{:,}'", "'{!r}'", "'{a}'", "'{:x}'", "'{:^7}'", "'{:.2f}'", "'{:+d}'", "'{:e}'",
                           "'{:*<6}'", "'{:.3}'", "'{:%}'", "'{0.a}'", "'{0[0]}'", "'{{}}'", "'{:06d}'", "'{:,.2f}'", "'{: }'", "'{:_}'", "'{:#x}'", "'{:.1}'", "'{:g}'", "'{:.4}|'", "'{!s:>6}'", "'{0[a]}'", "'{:=+6}'",
                           "'{:é^9}'", "'{:b}'", "'{:.1%}'", "'{:08.3f}'", "'{:{}}'", "'{:>{a}}'", "('<{}>'|safe)", "('{!r:>9}'|safe)")
        value = self.one(n, n, t, lambda: "(" + self.expression(depth - 1) + ")")
        return self.one(f"{t()}.{method}", f"({self.expression(depth - 1)}).{method}", f"{formats}.format({value}, a={n()})", f"{formats}.format({n()}, {t()}, a={value})",
                        "d.get('a')", f"d.get({t()}, {n()})", "d.keys()|list", "d.items()|list", f"l.index({n()})", f"l.count({n()})", "w.copy()", "l.append(1)",
                        "d.update(a=1)", f"mac({self.expression(depth - 1)})", "mac(1, q=2)", "missing()", "strftime_now('%Y %b %d')", "cycler('a', 'b').next()",
                        "raise_exception('no')", "joiner('; ')()")

    def open(self, what):
        """A tag with white space control."""
        return "{%" + self.one("", "", "", "-", "+") + f" {what} " + self.one("", "", "", "-") + "%}"

    def data(self):
        return self.one("text", " ", "\n", "  \n", "a\n  b", "\n\n", "{ }", " x ", "\t", "%", "#", "{", "é")

    def statement(self, depth, in_loop):
        self.in_loop = in_loop
        body = lambda loop=in_loop: self.body(depth - 1, loop)  # noqa: E731
        e, tag = self.expression, self.open
        simple = [lambda: self.data(), lambda: "{{" + self.one("", "", "-") + f" {e()} " + self.one("", "-") + "}}", lambda: f"{{{{ {e(3)} }}}}",
                  lambda: "{#" + self.one("", "-") + " c " + self.one("", "-") + "#}", lambda: tag(f"set {self.one('a', 'b', 'c')} = {e()}"),
                  lambda: tag(f"set a, b = {e()}, {e()}"), lambda: tag(f"set ns.q = {e()}"), lambda: "{{ ns.q }}"]
        if in_loop:
            simple += [lambda: tag(f"if {e()}") + tag(self.one("break", "continue")) + tag("endif"), lambda: "{{ loop.index }}{{ x }}"]
        if depth <= 0:
            return self.one(*simple)
        loop_over = lambda: self.one(f"x in {self.items()}", f"x in {self.items()}", f"x, y in {self.one('d.items()', 'd|items', 'd|dictsort', 'nested')}", f"x in ({e()})",  # noqa: E731
                                     f"x in {self.items()} if ({e()})")
        blocks = [lambda: tag(f"if {e()}") + body() + self.one("", lambda: tag(f"elif {e()}") + body()) + self.one("", lambda: tag("else") + body()) + tag("endif"),
                  lambda: tag(f"for {loop_over()}") + body(True) + self.one("", "", lambda: tag("else") + body()) + tag("endfor"),
                  lambda: tag("for x in nested recursive") + "[{{ loop.depth }}" + "{{ loop(x) if x is sequence else x }}]" + tag("endfor"),
                  lambda: tag("set c") + body() + tag("endset"), lambda: tag(f"set c | {self.one('upper', 'trim', 'length')}") + body() + tag("endset"),
                  lambda: tag(f"filter {self.one('upper', 'trim', 'indent(2)', 'replace(1, 2)|lower')}") + body() + tag("endfilter"),
                  lambda: tag(f"with a = {e()}, b = {e()}") + body() + tag("endwith"), lambda: tag("raw") + "{{ x }}\n" + tag("endraw"),
                  lambda: tag("macro mac(p, q='Q')") + self.body(depth - 1, False) + "{{ p }}{{ q }}" + self.one("", "{{ caller() if caller }}", "{{ caller() if caller }}", "{{ varargs }}{{ kwargs }}") + tag("endmacro"),
                  lambda: tag(f"call mac({e()})") + self.body(depth - 1, False) + tag("endcall"), lambda: tag("generation") + body(False) + tag("endgeneration"),
                  lambda: tag(f"block k{self.rng.randrange(1 << 30)}") + self.body(0) + tag("endblock")]
        return self.one(*simple, *blocks)

    def body(self, depth, in_loop=False):
        return "".join(self.statement(depth, in_loop) for _ in range(self.rng.randint(1, 3)))

    def template(self):
        return "{%- set ns = namespace(q=0) %}{%- macro mac(p, q=2) -%}{{ p }}/{{ q }}{{ caller() if caller }}{%- endmacro -%}" + self.body(self.rng.randint(0, 3))


def rendered(env, template):
    try:
        return {"text": env.from_string(template).render(**copy.deepcopy(CONTEXT))}  # `l|indent` adds to l there
    except Exception as e:  # noqa: BLE001  # whatever Python raises there
        return {"error": {"message": f"{type(e).__name__}: {e}"}}


# What no text can show alike: addresses and Python's own names of functions, and integers beyond 64 bits.
INCOMPARABLE = re.compile(r" at 0x|<(bound|built-in) |<function|<class|<(generator|jinja2|Cycler|Macro)|\d{19}|range\(", re.IGNORECASE)


def shown(answer):
    return json.dumps(answer.get("text"), ensure_ascii=False) if "text" in answer else "error: " + answer["error"]["message"]


def main():
    writer = Writer(random.Random(common.seed()))
    templates = [writer.template() for _ in range(common.cases(2000))]
    env = environment()
    with tempfile.TemporaryDirectory() as folder:
        with open(folder + "/tokenizer.json", "w") as f:
            json.dump({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}, f)
        got = common.answers(folder, [{"template": t, "context": CONTEXT, "now": NOW} for t in templates])
    mismatches, texts, incomparable = [], 0, 0
    for template, mine in zip(templates, got):
        theirs = rendered(env, template)
        if "text" in theirs and INCOMPARABLE.search(theirs["text"]):
            incomparable += 1
            continue
        texts += "text" in theirs
        if mine.get("text") != theirs.get("text"):
            mismatches.append(f"{template!r}\n  jinja2: {shown(theirs)}\n  moegen: {shown(mine)}")
    common.report("templates", len(templates), mismatches, f"; {texts} render, {incomparable} print what no two programs print alike")


if __name__ == "__main__":
    main()
