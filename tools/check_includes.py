#!/usr/bin/env python3
"""Checks the #include edges between the folders of src/: a folder may include only what its target links, directly or not.

A target graph alone does not stop an include. The allowed edges are read from the CMakeLists.txt of the folders themselves,
so there is one place to change. Also: cli/ and include/ see the public headers only, and no folder is part of a cycle.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
EXTRA = {"tensor": {"base"}}  # headers without a target of their own
PUBLIC = "moegen"


def links():
    """{folder: folders it links}, from moegen_library(name LINKS moegen_x ...)."""
    out = {k: set(v) for k, v in EXTRA.items()}
    for file in sorted((ROOT / "src").glob("*/CMakeLists.txt")):
        for name, args in re.findall(r"moegen_library\((\w+)([^)]*)\)", file.read_text()):
            out.setdefault(name, set()).update(re.findall(r"\bmoegen_(\w+)", args))
    return out


def closure(graph, folder, path=()):
    if folder in path:
        sys.exit(f"the folders depend on each other in a circle: {' -> '.join([*path, folder])}")
    return set.union({folder}, *(closure(graph, f, (*path, folder)) for f in graph[folder]))


def main():
    graph, bad, files = links(), [], 0
    for folder in list(graph):
        graph[folder].add("base") if folder != "base" else None
    allowed = {f: closure(graph, f) | {PUBLIC} | set(EXTRA) for f in graph}
    allowed["cli"] = {PUBLIC}
    allowed["include"] = {PUBLIC}
    for top in ("src", "cli", "include"):
        for file in sorted((ROOT / top).rglob("*")):
            if file.suffix not in (".h", ".cc", ".cu", ".cuh"):
                continue
            folder = file.relative_to(ROOT / "src").parts[0] if top == "src" else top
            files += 1
            for number, line in enumerate(file.read_text().splitlines(), 1):
                target = re.match(r'\s*#include "([^"/]+)/', line)
                if target and target[1] not in allowed[folder]:
                    bad.append(f"{file.relative_to(ROOT)}:{number}: {folder} may not include {target[1]}")
                if top == "include" and re.match(r"\s*#include <(?!\w+>)", line):
                    bad.append(f"{file.relative_to(ROOT)}:{number}: public headers include the standard library only")
    print("\n".join(bad) or f"{files} files, every #include edge points down")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
