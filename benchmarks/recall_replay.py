"""Tokens per step of Recall and the suffix trees on recorded traces, and what confidence promised.

Every setting serves the same requests in order, history online from empty. The released tree is
driven beside ours where it is installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from recall_sides import PEER_INSTALLED, PeerDrafter

from draftwood.draft import ROOT, Budget, Draft, TokenIds
from draftwood.drafters.catalog import make_drafter
from draftwood.protocols import Drafter, Feedback, Stream
from draftwood.replay.run import replay
from draftwood.replay.tokenizer import TraceTokenizer
from draftwood.replay.trace import Record, Trace

LINEAR, TREE = "suffix linear", "suffix tree"
OURS = {
    LINEAR: "suffix:alpha=1,floor=0.1,mode=linear,depth=24,nodes=24",
    TREE: "suffix:alpha=4,floor=0,mode=tree,depth=24,nodes=32",
    "recall tree": "recall:floor=0,nodes=32",
    "recall": "recall",
    "recall chain": "recall:mode=chain,nodes=32",
}
"""Setting -> spec. The suffix tree's are the released default and the best of its tree settings."""
PEERS = {"arctic linear": ("linear", 24), "arctic tree": ("tree", 32)}
"""The same two of the released tree: mode and nodes."""
SETTINGS = (*OURS, *(PEERS if PEER_INSTALLED else ()))
RECALL = tuple(name for name in OURS if name.startswith("recall"))
BINS = 10

Figures: TypeAlias = dict[str, float]


@dataclass(slots=True)
class Promise:
    """What a drafter's confidence promised, and what was accepted, after `warm` tokens."""

    warm: int
    tokens: int = 0
    promised: float = 0.0
    accepted: int = 0
    bins: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros((BINS, 3)))
    """Of each tenth of path probability: nodes, the sum of their probabilities, the accepted."""

    @property
    def error(self) -> float:
        """How far the sum of confidence is from the accepted tokens, as a part of these."""
        return self.promised / max(self.accepted, 1) - 1


@dataclass(frozen=True, slots=True)
class Replayed:
    """One trace under every setting: figures, and the promises of Recall's settings."""

    trace: str
    figures: dict[str, Figures]
    promises: dict[str, Promise]

    def __str__(self) -> str:
        cells = (
            f"{row['tokens_per_step']:5.2f} ({row['drafted_per_step']:4.1f})"
            for row in self.figures.values()
        )
        errors = " ".join(f"{promise.error:+6.1%}" for promise in self.promises.values())
        return f"{self.trace:46} {'  '.join(cells)}  {errors}"


def replay_all(paths: Sequence[Path], tokenizer: Path, limit: int, jobs: int) -> Iterator[Replayed]:
    """Each trace up to `limit` output tokens, in order; `jobs` processes."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        many = len(paths)
        yield from pool.map(_replay, paths, [tokenizer] * many, [limit] * many)


def _replay(path: Path, tokenizer: Path, limit: int) -> Replayed:
    trace = Trace(path, TraceTokenizer.load(tokenizer), problem=print)
    records = list(_first(trace, limit))
    total = min(limit, sum(len(record.response) for record in records))
    drafters: dict[str, Drafter] = {name: make_drafter(spec) for name, spec in OURS.items()}
    if PEER_INSTALLED:
        drafters |= {name: PeerDrafter(*how) for name, how in PEERS.items()}
    promises = {name: Promise(total // 5) for name in RECALL}
    drafters |= {name: Watched(drafters[name], promise) for name, promise in promises.items()}
    figures = {
        name: {
            "tokens_per_step": each.stats.tokens_per_step,
            "drafted_per_step": each.stats.drafted_per_step,
        }
        for name, each in replay(records, drafters, limit_tokens=limit).items()
    }
    return Replayed(trace.name, figures, promises)


def _first(trace: Trace, limit: int) -> Iterator[Record]:
    """Records with `limit` output tokens, and no more than are needed."""
    for record in trace:
        yield record
        limit -= len(record.response)
        if limit <= 0:
            return


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
            self.promise.bins[:, column] += np.bincount(bins, weights, minlength=BINS)
        self.promise.promised += float(path.sum())
        self.promise.accepted += len(step.verdict.path)
