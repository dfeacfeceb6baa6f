"""From steps to rates, the same for every engine. A step is [seconds since the start, prompt tokens, generated tokens].

A sample is the rate over consecutive steps of at least LEAST seconds together, so that one long run gives several.
"""
LEAST = 3.0
FULL = 0.9  # share of the most sequences that a step of decode must have


def _samples(steps, wanted, tokens):
    """Rates over stretches of steps that are all `wanted`; a rest that is too short joins the sample before it, or is all there is."""
    stretches, before, inside = [], 0.0, False
    for step in steps:
        if wanted(step):
            if not inside or stretches[-1][1] >= LEAST:
                stretches.append([0, 0.0])
            stretches[-1][0] += tokens(step)
            stretches[-1][1] += step[0] - before
        inside, before = wanted(step), step[0]
    if len(stretches) > 1 and stretches[-1][1] < LEAST / 2:
        count, seconds = stretches.pop()
        stretches[-1][0] += count
        stretches[-1][1] += seconds
    return [count / seconds for count, seconds in stretches]


def prefill(steps):
    return _samples(steps, lambda s: s[1] > 0, lambda s: s[1])


def decode(steps):
    """While as good as all sequences are in flight and no prompt is computed."""
    most = max((s[2] for s in steps if s[1] == 0), default=0)
    return _samples(steps, lambda s: s[1] == 0 and s[2] >= FULL * most, lambda s: s[2])


def job(steps):
    """Generated tokens/s from the first second to the last."""
    return [sum(s[2] for s in steps) / steps[-1][0]]


def samples(run, case):
    if "rates" in run:  # the engine's own tool measured phases, not steps
        return run["rates"]
    return {"prefill": prefill, "decode": decode, "ragged": job}[case.kind](run["steps"])
