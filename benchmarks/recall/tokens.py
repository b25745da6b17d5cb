"""Tokens per step of Recall and the suffix trees on recorded traces, and what confidence promised.

Every setting serves the same requests in order, history online from empty. The released tree is
driven beside ours where it is installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeAlias

from benchmarks.common.promises import Promise, Watched
from benchmarks.recall.sides import PEER_INSTALLED, PeerDrafter
from draftwood.drafters.catalog import make_drafter
from draftwood.logs.call import Record
from draftwood.logs.log import Log
from draftwood.logs.tokenizer import TraceTokenizer
from draftwood.protocols import Drafter
from draftwood.replay.run import replay

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
Figures: TypeAlias = dict[str, float]


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
    trace = Log(path, TraceTokenizer.load(tokenizer))
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


def _first(trace: Log, limit: int) -> Iterator[Record]:
    """Records with `limit` output tokens, and no more than are needed."""
    for record in trace:
        yield record
        limit -= len(record.response)
        if limit <= 0:
            return
