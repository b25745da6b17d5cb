"""The experiments of the SuffixDecoding papers (arXiv 2411.04975), repeated on recorded traces.

    python benchmarks/paper/run.py --traces traces/*.jsonl.gz --tokenizer tokenizer.json

        --out benchmarks/paper/results.json

Tokens per step against the number of past outputs; against alpha and floor; from the shared tree,
the request's own, and both; after a shift of workload from chat to SQL; and accepted tokens by
match length. A workload's family is its file name up to the first hyphen. With --out the curves are
drawn beside the file, too: `results.svg`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.common.command import parser, publish, read, require
from benchmarks.paper.plots import draw
from benchmarks.paper.serve import MATCHES, Tally, serve, store
from draftwood.index.suffix_tree import SuffixPolicy, SuffixTree
from draftwood.logs.call import Record
from draftwood.logs.log import Log
from draftwood.logs.tokenizer import TraceTokenizer

DEPTH = 64
POLICY = SuffixPolicy(alpha=4.0, floor=0.02, mode="tree")
SIZES = (0, 64, 128, 256, 512, 1024, 2048, 4096, 10_000)
ALPHAS = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
FLOORS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
NEAR_COPY = "edit-ldb_repair"
"""Whole-function rewrites, 8 tokens a step from the prompt alone: would swamp any average."""


@dataclass(slots=True)
class Workload:
    """All requests of a family, in served order; some of them held out for measuring."""

    name: str
    records: list[Record]

    def split(self, held_out: int, seed: int = 0) -> tuple[list[Record], list[Record]]:
        """Past requests in random order, and so many others to measure on."""
        order = np.random.default_rng(seed).permutation(len(self.records))
        held = [self.records[i] for i in sorted(order[:held_out])]
        return [self.records[i] for i in order[held_out:]], held


def main() -> None:
    options = _options()
    workloads = _workloads(options.traces, options.tokenizer, options.prompt_tokens)
    results: dict[str, Any] = {
        "policy": {"depth": DEPTH, "alpha": POLICY.alpha, "floor": POLICY.floor, "mode": "tree"},
        "corpus": corpus_size(workloads, options.held_out),
        "alpha_floor": alpha_and_floor(workloads, options.held_out),
        "sources": sources(workloads, options.tokens),
        "shift": shift(workloads, options.window),
    }
    rates = [
        kinds["both"]["tokens_per_step"] / kinds["shared"]["tokens_per_step"]
        for kinds in results["sources"].values()
    ]
    require(bool(rates) and min(rates) > 0.5, "two trees draft about as well as one or better")
    publish(results, options)
    if options.out:
        draw(results, options.out.with_suffix(".svg"))


def _options() -> Any:
    made = parser(__doc__, traces=True)
    made.add_argument("--held-out", type=int, default=60, help="requests to measure on")
    made.add_argument("--tokens", type=int, default=30_000, help="output tokens of a family")
    made.add_argument("--window", type=int, default=100, help="requests a point after a shift")
    made.add_argument("--prompt-tokens", type=int, default=8_000, help="kept of a prompt's end")
    return read(made, held_out=1, tokens=1_000, window=3)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _workloads(paths: list[Path], tokenizer: Path, prompt_tokens: int) -> dict[str, Workload]:
    loaded = TraceTokenizer.load(tokenizer)
    families: dict[str, list[Record]] = defaultdict(list)
    for path in paths:
        if path.name.startswith(NEAR_COPY):
            continue
        _say(f"reading {path.name}")
        for record in Log(path, loaded):
            if len(record.response):
                prompt = record.prompt[-prompt_tokens:].copy()  # not the whole session behind it
                families[path.name.split("-")[0]].append(replace(record, prompt=prompt))
    return {name: Workload(name, records) for name, records in families.items()}


def _mixed(workloads: dict[str, Workload]) -> Workload:
    return Workload("all", [record for each in workloads.values() for record in each.records])


# --- Experiments ------------------------------------------------------------------------------


def corpus_size(workloads: dict[str, Workload], held_out: int) -> dict[str, dict[str, Any]]:
    """Tokens per step against the number of past outputs; the shared tree is frozen."""
    found: dict[str, dict[str, Any]] = {}
    for workload in (*workloads.values(), _mixed(workloads)):
        past, held = workload.split(held_out)
        shared = SuffixTree(DEPTH)
        stored = 0
        points = {}
        for size in SIZES:
            if size > len(past):
                break
            store(shared, [record.response for record in past[stored:size]])
            stored = size
            points[str(size)] = _measured(held, shared, POLICY).as_dict()
        found[workload.name] = points
        _say(f"corpus size, {workload.name}: {_brief(points)}")
    return found


def alpha_and_floor(workloads: dict[str, Workload], held_out: int) -> dict[str, Any]:
    """Tokens per step for alpha and floor, with all other outputs of the workload stored."""
    found = {}
    for workload in _several(workloads):
        past, held = workload.split(held_out)
        shared = SuffixTree(DEPTH)
        store(shared, [record.response for record in past])
        grid = {}
        for floor in FLOORS:
            for alpha in ALPHAS:
                policy = replace(POLICY, alpha=alpha, floor=floor)
                grid[f"{alpha:g}/{floor:g}"] = _measured(held, shared, policy).as_dict()
        found[workload.name] = grid
        _say(f"alpha and floor, {workload.name}: {len(grid)} settings")
    return found


def _several(workloads: dict[str, Workload]) -> Iterator[Workload]:
    """The families on which alpha and floor are swept: one of each kind, where there is one."""
    wanted = ("chat", "sqlagent", "agentcode", "reason")
    kept = [workloads[name] for name in wanted if name in workloads]
    yield from kept or workloads.values()


def sources(workloads: dict[str, Workload], tokens: int) -> dict[str, Any]:
    """Shared tree only, the request's own only, and both; history online from empty.

    `by_match`: for both, [p, steps, accepted tokens, drafted tokens] after matches of p tokens.
    """
    found: dict[str, Any] = {}
    for workload in workloads.values():
        kinds = {}
        for kind, (own, common) in {
            "shared": (False, True),
            "own": (True, False),
            "both": (True, True),
        }.items():
            shared, tally = SuffixTree(DEPTH), Tally()
            for record in workload.records:
                serve(record, shared, POLICY, tally, own=own, common=common, learn=common)
                if tally.tokens >= tokens:
                    break
            kinds[kind] = tally.as_dict()
        rows = [[p, *tally.by_match[p].tolist()] for p in range(MATCHES + 1)]
        found[workload.name] = kinds | {"by_match": [row for row in rows if row[1]]}
        _say(f"sources, {workload.name}: {_brief(kinds)}")
    return found


def shift(workloads: dict[str, Workload], window: int) -> dict[str, Any]:
    """SQL requests after a history of chat, of SQL, and of nothing; tokens per step, online."""
    kinds = [workloads[name] for name in ("sql", "sqlagent") if name in workloads]
    records = [record for workload in kinds for record in workload.records]
    if "chat" not in workloads or not records:
        return {}
    chat = [record.response for record in workloads["chat"].records]
    requests = [records[i] for i in np.random.default_rng(3).permutation(len(records))]
    # One half is the native history, the other is served.
    half = len(requests) // 2
    native = [record.response for record in requests[half:]]
    found: dict[str, Any] = {"window": window}
    for name, history in {"chat": chat, "sql": native, "nothing": []}.items():
        shared = SuffixTree(DEPTH)
        store(shared, history)
        curve = []
        for start in range(0, half - window + 1, window):
            tally = Tally()
            for record in requests[start : start + window]:
                serve(record, shared, POLICY, tally, learn=True)
            curve.append(round(tally.tokens_per_step, 4))
        found[name] = curve
        _say(f"shift, history of {name}: {curve}")
    return found


def _measured(held: list[Record], shared: SuffixTree, policy: SuffixPolicy) -> Tally:
    tally = Tally()
    for record in held:
        serve(record, shared, policy, tally)
    return tally


def _brief(points: dict[str, Any]) -> str:
    return ", ".join(f"{key} {point['tokens_per_step']:.2f}" for key, point in points.items())


if __name__ == "__main__":
    main()
