#!/usr/bin/env python3
"""Writes README.md, results.json and a plot for each model from OUT/runs.jsonl: report.py OUT"""
import json
import pathlib
import statistics
import sys

import cases
import rates

COLORS = {"moegen": "#d1495b", "vllm": "#30638e", "vllm-zen": "#7fa6c9", "llama-bf16": "#2e8b57", "llama-q8_0": "#8fc1a0", "transformers": "#edae49"}
PANELS = {"prefill": "Prefill", "decode": "Decode, all sequences in flight", "ragged": "Whole ragged job, generated tokens"}


def summarise(runs):
    """{(model, case): {engine: median, low, high, samples, rounds, note}}, cases by kind and size."""
    found = {}
    for run in runs:
        case = cases.parse(run["case"])
        entry = found.setdefault((run["model"], case.name), {}).setdefault(run["engine"], {"all": [], "rounds": 0, "notes": []})
        entry["all"] += rates.samples(run, case)
        entry["rounds"] += 1
        if run.get("note") and run["note"] not in entry["notes"]:
            entry["notes"].append(run["note"])
    for by_engine in found.values():
        for engine, e in by_engine.items():
            x = e["all"]
            by_engine[engine] = {"median": statistics.median(x), "low": min(x), "high": max(x), "samples": len(x), "rounds": e["rounds"],
                                 "note": "; ".join(e["notes"])}
    order = list(PANELS)

    def rank(item):
        case = cases.parse(item[0][1])
        return item[0][0], order.index(case.kind), case.prompt, case.sequences

    return dict(sorted(found.items(), key=rank))


def number(x):
    return f"{x:,.0f}" if x >= 100 else f"{x:.1f}"


def cell(e, notes):
    if e is None:
        return ""
    mark = ""
    if e["note"]:
        if e["note"] not in notes:
            notes.append(e["note"])
        mark = f" [{notes.index(e['note']) + 1}]"
    spread = f" ({number(e['low'])}-{number(e['high'])})" if e["samples"] > 1 else ""
    return number(e["median"]) + spread + mark


def title(case):
    if case.kind == "ragged":
        return f"ragged job, {case.sequences:,} requests" + (" (gsm8k)" if case.name.startswith("gsm8k") else "")
    return f"{case.kind}, {case.sequences:,} x {case.prompt} in" + (f", {case.generate} out" if case.generate > 1 else "")


def table(summary, model, names):
    notes = []
    lines = ["| tokens/s | " + " | ".join(names) + " | moegen / best peer |", "|---" * (len(names) + 2) + "|"]
    for (of, name), by_engine in summary.items():
        if of != model:
            continue
        peers = [e["median"] for n, e in by_engine.items() if n != "moegen"]
        ratio = f"{by_engine['moegen']['median'] / max(peers):.2f}" if peers and "moegen" in by_engine else ""
        lines.append(f"| {title(cases.parse(name))} | " + " | ".join(cell(by_engine.get(n), notes) for n in names) + f" | {ratio} |")
    return "\n".join([*lines, "", *(f"[{i + 1}] {note}." for i, note in enumerate(notes))])


def bars(panel, items, names, x, width, height, top):
    """A panel of groups of bars, one group a case."""
    most = max(e["high"] for _, by in items for e in by.values())
    scale = (height - 60) / most
    group = width / len(items)
    bar = min(22.0, (group - 14) / len(names))
    base = top + height - 34
    out = [f'<text x="{x}" y="{top}" class="h">{PANELS[panel]}, tokens/s</text>', f'<path d="M{x} {base}h{width}" class="l"/>']
    for i, (name, by) in enumerate(items):
        case = cases.parse(name)
        left = x + i * group + (group - bar * len(names)) / 2
        label = f"{case.sequences:,}" + ("" if case.kind == "ragged" else f" x {case.prompt}")
        out.append(f'<text x="{x + (i + 0.5) * group:.1f}" y="{base + 15}" text-anchor="middle">{label}</text>')
        for j, n in enumerate(names):
            if n in by:
                e, at = by[n], left + j * bar
                out.append(f'<rect x="{at:.1f}" y="{base - e["median"] * scale:.1f}" width="{bar - 2:.1f}" height="{e["median"] * scale:.1f}" fill="{COLORS[n]}"/>')
                out.append(f'<path d="M{at + bar / 2 - 1:.1f} {base - e["low"] * scale:.1f}V{base - e["high"] * scale:.1f}" class="r"/>')
                out.append(f'<text x="{at + bar / 2 - 1:.1f}" y="{base - e["high"] * scale - 4:.1f}" text-anchor="middle" class="v">{number(e["median"])}</text>')
    return out


def plot(summary, model, names):
    panels = {}
    for (of, name), by in summary.items():
        if of == model:
            panels.setdefault(cases.parse(name).kind, []).append((name, by))
    width, height, y, body = 880, 250, 50, []
    for i, n in enumerate(names):
        body.append(f'<rect x="{20 + 130 * i}" y="12" width="12" height="12" fill="{COLORS[n]}"/><text x="{37 + 130 * i}" y="22">{n}</text>')
    for kind, items in panels.items():
        body += bars(kind, items, names, 20, width - 40, height, y)
        y += height + 10
    style = "text{font:12px sans-serif;fill:#222}.h{font-weight:bold}.v{font-size:9px}.l{stroke:#888}.r{stroke:#222;stroke-width:1}"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" height="{y}"><style>{style}</style>' \
           f'<rect width="{width}" height="{y}" fill="#fff"/>' + "\n".join(body) + "</svg>\n"


def commands(runs, names):
    lines = []
    for n in names:
        run = next((r for r in reversed(runs) if r["engine"] == n), None)
        if run is None:
            continue
        settings = " ".join(f"{k}={v}" for k, v in run["environment"].items())
        lines.append(f"- {run['model']}, {n}: {run['version']}\n  `{(settings + ' ' + run['command']).strip()}`")
    return "\n".join(lines)


def write(out):
    runs = [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]
    if not runs:
        return
    summary = summarise(runs)
    names = [n for n in COLORS if any(r["engine"] == n for r in runs)]
    text = ["# Peers, in one run", "", f"{runs[-1]['machine']}; {runs[0]['time'][:16]} to {runs[-1]['time'][:16]}, {max(r['round'] for r in runs) + 1} rounds. "
            "Median of the samples (lowest-highest); benchmarks/peers/README.md says what is measured and what each engine was given.", ""]
    for model in sorted({m for m, _ in summary}, reverse=True):
        picture = model.replace(" ", "-") + ".svg"
        mine = [n for n in names if any(n in by for (of, _), by in summary.items() if of == model)]
        (out / picture).write_text(plot(summary, model, mine))
        text += [f"## {model}", "", table(summary, model, mine), "", f"![{model}]({picture})", ""]
    text += ["## Versions and commands", "", *(commands([r for r in runs if r["model"] == m], names) for m in sorted({m for m, _ in summary}, reverse=True)), ""]
    (out / "README.md").write_text("\n".join(text))
    (out / "results.json").write_text(json.dumps([{"model": m, "case": c, "engines": by} for (m, c), by in summary.items()], indent=1) + "\n")
    print(out / "README.md")


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
