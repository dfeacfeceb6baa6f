#!/usr/bin/env python3
"""Draws one pass of a trace: tools/draw_trace.py TRACE.json OUT.svg [PASS]

TRACE.json is what `moegen run-batch --trace` wrote; PASS counts from 0 [the one in the middle]. Two lanes: what the cores did, and how many reads
the storage had under way. The title gives the share of the pass in which the storage was idle and in which the cores waited for weights. Prints
where the time of the pass went.
"""
import json
import sys

WIDTH, LEFT, LANE, TOP = 1200, 90, 60, 70
COLORS = {"experts": "#3b6ea5", "wait for weights": "#d1495b", "attention": "#66a182", "q, k, v": "#a3c9a8", "output projection": "#c9dbb2",
          "router": "#edae49", "logits": "#8d6a9f", "dense MLP": "#5b8fb9", "combine, shared expert": "#f2d492"}


def passes(events):
    """[begin, end) of every pass: from the first layer's projections to the next pass's."""
    starts = [e["ts"] for e in events if e["name"] == "q, k, v" and e["args"]["layer"] == 0]
    return list(zip(starts, starts[1:]))


def reads_of(events):
    open_reads, out = {}, []
    for e in events:
        if e["ph"] == "b":
            open_reads[e["id"]] = e["ts"]
        elif e["ph"] == "e":
            out.append((open_reads.pop(e["id"]), e["ts"]))
    return out


def depth_steps(reads, begin, end):
    """(time, reads under way from then on)."""
    changes = sorted([(max(b, begin), 1) for b, e in reads if b < end and e > begin] + [(min(e, end), -1) for b, e in reads if b < end and e > begin])
    depth, out = 0, [(begin, 0)]
    for time, change in changes:
        depth += change
        out.append((time, depth))
    return out + [(end, depth)]


def draw(events, begin, end):
    scale = (WIDTH - LEFT - 20) / (end - begin)
    x = lambda time: LEFT + (min(max(time, begin), end) - begin) * scale
    compute = [e for e in events if e["ph"] == "X" and e["ts"] < end and e["ts"] + e["dur"] > begin]
    steps = depth_steps(reads_of(events), begin, end)
    idle = sum(t1 - t0 for (t0, depth), (t1, _) in zip(steps, steps[1:]) if depth == 0) / (end - begin)
    waits = sum(min(e["ts"] + e["dur"], end) - max(e["ts"], begin) for e in compute if e["name"] == "wait for weights") / (end - begin)
    most = max(depth for _, depth in steps) or 1
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="290" font-family="sans-serif" font-size="13">',
           '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="{LEFT}" y="28" font-size="16">A pass of {(end - begin) / 1000:.0f} ms: storage idle {100 * idle:.1f} %, '
           f'cores waiting {100 * waits:.1f} %</text>',
           f'<text x="10" y="{TOP + 35}">cores</text><text x="10" y="{TOP + LANE + 55}">reads</text>']
    for e in compute:
        left, right = x(e["ts"]), x(e["ts"] + e["dur"])
        out.append(f'<rect x="{left:.2f}" y="{TOP}" width="{max(right - left, 0.05):.2f}" height="{LANE}" fill="{COLORS.get(e["name"], "#999")}"/>')
    base = TOP + 2 * LANE + 20
    line = " ".join(f"H{x(time):.2f} V{base - depth / most * LANE:.2f}" for time, depth in steps)
    out.append(f'<path d="M{LEFT} {base} {line} H{x(end):.2f} V{base} Z" fill="#9d8189"/>')
    out.append(f'<text x="{WIDTH - 18}" y="{base - LANE}" text-anchor="end">at most {most} at a time</text>')
    for i in range(6):
        time = begin + (end - begin) * i / 5
        out.append(f'<text x="{x(time):.0f}" y="{base + 20}" text-anchor="middle">{(time - begin) / 1000:.0f} ms</text>')
    at = LEFT
    for name in sorted({e["name"] for e in compute}):
        out.append(f'<rect x="{at}" y="{base + 38}" width="12" height="12" fill="{COLORS.get(name, "#999")}"/>'
                   f'<text x="{at + 17}" y="{base + 49}">{name}</text>')
        at += 35 + 7 * len(name)
    return "\n".join(out + ["</svg>", ""])


def shares(events, begin, end):
    """Share of the pass by what the cores did, largest first; what no span covers is "between steps"."""
    out = {}
    for e in events:
        if e["ph"] == "X" and begin <= e["ts"] < end:
            out[e["name"]] = out.get(e["name"], 0) + min(e["dur"], end - e["ts"]) / (end - begin)
    out["between steps"] = 1 - sum(out.values())
    return sorted(out.items(), key=lambda item: -item[1])


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        events = [e for e in json.load(file) if e["ph"] != "M"]
    found = passes(events)
    if not found:
        sys.exit(f"{sys.argv[1]}: no whole pass in it")
    begin, end = found[int(sys.argv[3]) if len(sys.argv) > 3 else len(found) // 2]
    with open(sys.argv[2], "w", encoding="utf-8") as out:
        out.write(draw(events, begin, end))
    for name, share in shares(events, begin, end):
        print(f"{100 * share:5.1f} %  {name}")


if __name__ == "__main__":
    main()
