"""Recall beside the suffix tree: tokens per step on recorded traces, and what a draft costs.

    python benchmarks/recall.py --traces traces/*.jsonl.gz --tokenizer tokenizer.json --json

Each trace is replayed up to --limit-tokens output tokens with every setting, history online from
empty. The suffix tree's drafts are those of the released code (peer_suffix.py shows it), so
"suffix linear" is its default and "suffix tree" the best of its tree settings. Traces whose
responses copy their prompt (`edit-ldb_repair`) are shown and kept out of the means.

It prints a table and, with --json, one JSON object as its last line: `append_us`,
`bytes_per_token`, `prompt128k_open_ms`, `prompt128k_close_ms`, `draft16_us_p50`, `draft16_us_p99`,
`batch256_ms`, `open_100m_tokens_ms`, `calibration_error` (the worst trace's), and under `traces`
tokens per step and drafted tokens of each setting. `reliability`: for ten bins of path
probability, the drafted nodes, their mean probability and the part of them that was accepted.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import recall_cost as cost

from draftwood.draft import ROOT, Budget, Draft, TokenIds
from draftwood.drafters.catalog import make_drafter
from draftwood.index.recall import Recall
from draftwood.protocols import Drafter, Feedback, Stream
from draftwood.provenance import provenance
from draftwood.replay.run import replay
from draftwood.replay.tokenizer import TraceTokenizer
from draftwood.replay.trace import Record, Trace

LINEAR, TREE = "suffix linear", "suffix tree"
SETTINGS = {
    LINEAR: "suffix:alpha=1,floor=0.1,mode=linear,depth=24,nodes=24",
    TREE: "suffix:alpha=4,floor=0,mode=tree,depth=24,nodes=32",
    "recall tree": "recall:floor=0,nodes=32",
    "recall": "recall",
    "recall chain": "recall:mode=chain,nodes=32",
}
NEAR_COPY = "edit-ldb_repair"
BINS = 10


@dataclass(slots=True)
class Promise:
    """What a drafter's confidence promised, and what was accepted, after `warm` tokens."""

    warm: int
    tokens: int = 0
    promised: float = 0.0
    accepted: int = 0
    nodes: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros((BINS, 3)))

    @property
    def error(self) -> float:
        """How far the sum of confidence is from the accepted tokens, as a part of these."""
        return self.promised / max(self.accepted, 1) - 1


class Watched:
    """A drafter whose promises are counted; the last step of a response, which is cut, is not."""

    def __init__(self, drafter: Drafter, promise: Promise) -> None:
        self.drafter, self.promise = drafter, promise

    def open(self, prompt: TokenIds, *, namespace: str = "") -> WatchedStream:
        """The drafter's stream."""
        return WatchedStream(self.drafter.open(prompt, namespace=namespace), self.promise)


class WatchedStream:
    """A stream whose promises are counted."""

    def __init__(self, stream: Stream, promise: Promise) -> None:
        self.stream, self.promise = stream, promise
        self._step: Feedback | None = None

    def propose(self, budget: Budget) -> Draft:
        """The stream's draft; the step before it was not the last."""
        if self._step is not None and self.promise.tokens > self.promise.warm:
            self._count(self._step)
        return self.stream.propose(budget)

    def observe(self, feedback: Feedback) -> None:
        """Pass the feedback on."""
        self._step = feedback
        self.promise.tokens += len(feedback.tokens)
        self.stream.observe(feedback)

    def close(self) -> None:
        """Close the stream."""
        self.stream.close()

    def _count(self, step: Feedback) -> None:
        path = np.empty(len(step.draft))
        for node, parent in enumerate(step.draft.parents.tolist()):
            above = 1.0 if parent == ROOT else path[parent]
            path[node] = above * step.draft.confidence[node]
        accepted = np.isin(np.arange(len(path)), step.verdict.path)
        bins = np.minimum((path * BINS).astype(int), BINS - 1)
        for column, weights in enumerate((None, path, accepted)):
            self.promise.nodes[:, column] += np.bincount(bins, weights, minlength=BINS)
        self.promise.promised += float(path.sum())
        self.promise.accepted += len(step.verdict.path)


def replay_all(
    traces: list[Trace], limit: int
) -> tuple[dict[str, dict[str, list[float]]], dict[str, dict[str, float]], np.ndarray[Any, Any]]:
    """Of each trace and setting tokens and drafted tokens a step; calibration errors; bins."""
    steps: dict[str, dict[str, list[float]]] = {}
    errors: dict[str, dict[str, float]] = {}
    nodes = np.zeros((BINS, 3))
    for trace in traces:
        records = list(trace)
        total = min(limit, sum(len(record.response) for record in records))
        watched = {
            name: Watched(make_drafter(spec), Promise(total // 5))
            for name, spec in SETTINGS.items()
        }
        figures = replay(records, watched, limit_tokens=limit)
        steps[trace.name] = {
            name: [each.stats.tokens_per_step, each.stats.drafted_per_step]
            for name, each in figures.items()
        }
        ours = {name: each.promise for name, each in watched.items() if name.startswith("recall")}
        errors[trace.name] = {name: promise.error for name, promise in ours.items()}
        nodes += sum(promise.nodes for promise in ours.values())
        row = "  ".join(f"{a:5.2f} ({b:4.1f})" for a, b in steps[trace.name].values())
        worst = max(map(abs, errors[trace.name].values()))
        print(f"{trace.name:46} {row}  {worst:5.1%}", flush=True)
    return steps, errors, nodes


def means(steps: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Of each setting: geometric means of tokens a step over each baseline's, and the least."""
    kept = [row for name, row in steps.items() if not name.startswith(NEAR_COPY)]
    table = {}
    for setting in SETTINGS:
        table[setting] = {"drafted_ratio": _mean([r[setting][1] / r[LINEAR][1] for r in kept])}
        for base in (LINEAR, TREE):
            ratios = [row[setting][0] / row[base][0] for row in kept]
            table[setting] |= {f"over {base}": _mean(ratios), f"least over {base}": min(ratios)}
    return table


def costs(records: list[Record], big_tokens: int) -> dict[str, float]:
    """Time and memory; `records` are what history is made of."""
    recall = Recall(1_000_000)
    append = cost.fill(recall, records)
    p50, p99 = cost.draft_times(recall, records, nodes=16, drafts=6000)
    opened, closed = cost.prompt_times(recall, records, 128_000)
    batch = cost.batch_ms(recall, records, batch=256, nodes=16, threads=2)
    return {
        "append_us": append,
        "bytes_per_token": recall.nbytes / recall.capacity,
        "prompt128k_open_ms": opened,
        "prompt128k_close_ms": closed,
        "draft16_us_p50": p50,
        "draft16_us_p99": p99,
        "batch256_ms": batch,
        "open_100m_tokens_ms": cost.file_open_ms(big_tokens),
    }


def main() -> None:
    options = _options()
    tokenizer = TraceTokenizer.load(options.tokenizer)
    traces = [Trace(path, tokenizer, problem=print) for path in options.traces]
    steps, errors, nodes = replay_all(traces, options.limit_tokens)
    table = means(steps)
    for name, row in table.items():
        print(f"{name:14}", "  ".join(f"{key} {value:.3f}" for key, value in row.items()))
    records = [record for trace in traces[:4] for record in list(trace)[:400]]
    figures: dict[str, Any] = costs(records, options.file_tokens)
    for name, value in figures.items():
        print(f"{name:22} {value:.3f}")
    figures["calibration_error"] = max(abs(e) for row in errors.values() for e in row.values())
    count = np.maximum(nodes[:, 0], 1)
    figures["reliability"] = [
        [int(n), p, a]
        for n, p, a in zip(nodes[:, 0], nodes[:, 1] / count, nodes[:, 2] / count, strict=True)
    ]
    figures |= {"traces": steps, "calibration": errors, "means": table, "settings": SETTINGS}
    figures["provenance"] = provenance()
    if options.json:
        print(json.dumps(figures))


def _mean(ratios: list[float]) -> float:
    return exp(sum(map(log, ratios)) / len(ratios))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", nargs="+", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--limit-tokens", type=int, default=150_000)
    parser.add_argument("--file-tokens", type=int, default=100_000_000)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
