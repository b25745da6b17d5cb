"""What Recall's operations cost beside the suffix trees', in time and bytes, for `run.py`.

The sides are measured one after the other in one run, not in turns: one side's data would push
the other's out of the caches. Times are wall clock; single calls during which the thread lost its
core are left out, so that a busy machine spoils p99 little.
"""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from statistics import median
from time import perf_counter_ns, thread_time_ns
from typing import Any, TypeAlias

import numpy as np

from benchmarks.recall.sides import PEER_INSTALLED, PeerSide, RecallSide, Request, Side, SuffixSide
from draftwood.draft import Budget, TokenIds
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallStream
from draftwood.logs.call import Record

STEP = 3
"""Tokens that a request moves between two drafts: about what a step generates."""
NODES = 16
PROMPT = 128_000
BATCH = 256
FLOOR = 0.005
"""Of the default drafter, in the decode step of a batch; single drafts have no floor."""

Table: TypeAlias = dict[str, dict[str, float]]
"""Side -> figure -> value."""


@dataclass(frozen=True, slots=True)
class Work:
    """Outputs that are history, and requests of the same traces that draft from it."""

    stored: list[TokenIds]
    asked: list[Record]

    @classmethod
    def of(cls, records: Sequence[Record]) -> Work:
        """Of ten records one asks, and nine are history; in an order that mixes the traces."""
        order = np.random.default_rng(1).permutation(len(records)).tolist()
        mixed = [records[at] for at in order]
        asked = [record for at, record in enumerate(mixed) if at % 10 == 0]
        stored = [record.response for at, record in enumerate(mixed) if at % 10]
        return cls(stored, asked)

    def texts(self, tokens: int) -> Iterator[TokenIds]:
        """Outputs of `tokens` tokens or a few more, the real ones last.

        Where there are too few, others go before them with the ids shuffled: the structure of text,
        and not the same text.
        """
        random = np.random.default_rng(0)
        limit = 1 + max(int(text.max()) for text in self.stored)
        for turn in range(-(-tokens // sum(map(len, self.stored))), 0, -1):
            ids = random.permutation(limit) if turn > 1 else np.arange(limit)
            renamed = ids.astype(np.int32)
            yield from (renamed[text] for text in self.stored)

    def prompt(self, tokens: int) -> TokenIds:
        """A prompt of real text."""
        parts = [part for record in self.asked for part in (record.prompt, record.response)]
        return np.resize(np.concatenate(parts), tokens).astype(np.int32)


def costs(work: Work, *, tokens: int) -> Table:
    """Every side's figures with `tokens` stored; the peer's where it is installed."""
    recall = RecallSide(tokens)
    others: list[Any] = [SuffixSide(), *([PeerSide()] if PEER_INSTALLED else [])]
    sides: list[Any] = [recall, *others]
    table: Table = {side.name: appends(side, work, tokens) for side in sides}
    batch = [recall.with_floor(FLOOR), *others]
    for measured in (
        _prompts(sides, work),
        drafts(sides, work),
        _steps(batch, work, NODES, "batch256_ms"),
        _steps(batch, work, 2 * NODES, "batch256_nodes32_ms"),
    ):
        for name, row in measured.items():
            table[name] |= row
    return table


def appends(side: Side, work: Work, tokens: int) -> dict[str, float]:
    """Store so many tokens: microseconds and bytes of each. CPU time, since calls are long."""
    stored, spent, before = 0, 0, _resident()
    for text in work.texts(tokens):
        start = thread_time_ns()
        side.add(text)
        spent += thread_time_ns() - start
        stored += len(text)
    each = side.bytes_per_token(stored) or (_resident() - before) / stored
    return {"append_us": spent / 1e3 / stored, "bytes_per_token": each}


def drafts(sides: Sequence[Side], work: Work, most: int = 6000) -> Table:
    """Microseconds of a draft of 16 nodes: of requests that history holds, and of others."""
    table: Table = {side.name: {} for side in sides}
    held = [Record(text[:0], text) for text in work.stored[:: len(work.stored) // 400 + 1]]
    for kind, records in {"draft16": work.asked, "draft16_held": held}.items():
        for side in sides:
            each = chain.from_iterable(_drafts(side, record) for record in records)
            times = list(islice(each, most))
            p50, p99 = np.percentile(times, (50, 99)).tolist()
            table[side.name] |= {f"{kind}_us_p50": p50, f"{kind}_us_p99": p99}
    return table


def _drafts(side: Side, record: Record) -> Iterator[float]:
    request = side.open(record.prompt)
    for at in range(0, min(len(record.response), 20 * STEP) - STEP + 1, STEP):
        switches = _switches()
        start = perf_counter_ns()
        request.draft(NODES)
        end = perf_counter_ns()
        if _switches() == switches:
            yield (end - start) / 1e3
        request.append(record.response[at : at + STEP])
    request.close()


def _prompts(sides: Sequence[Side], work: Work) -> Table:
    """Milliseconds to open a request with a long prompt, and to close it: medians."""
    prompt = work.prompt(PROMPT)
    table: Table = {}
    for side in sides:
        opened, closed = [], []
        for _ in range(9):
            held: list[Request] = []
            opened.append(_milliseconds(lambda: held.append(side.open(prompt))))  # noqa: B023
            closed.append(_milliseconds(held.pop().close))
        table[side.name] = {
            "prompt128k_open_ms": median(opened),
            "prompt128k_close_ms": median(closed),
        }
    return table


def _steps(sides: Sequence[Side], work: Work, nodes: int, key: str) -> Table:
    """Milliseconds of one decode step of a batch, append and draft: the median of 30."""
    chosen = [record for record in work.asked if len(record.response) >= 31 * STEP]
    chosen = [chosen[at % len(chosen)] for at in range(BATCH)]
    table: Table = {}
    for side in sides:
        running = [side.open(record.prompt[-2000:]) for record in chosen]
        times = []
        for at in range(0, 30 * STEP, STEP):
            tokens = [record.response[at : at + STEP] for record in chosen]
            times.append(_milliseconds(lambda: side.step(running, tokens, nodes)))  # noqa: B023
        for request in running:
            request.close()
        table[side.name] = {key: median(times)}
    return table


def large_ratio(work: Work, *, small: int, large: int) -> dict[str, float]:
    """Drafts with `large` tokens of history beside the same with `small`, in turns."""
    sides = {"small": RecallSide(small), "large": RecallSide(large)}
    figures = {}
    for size, side in sides.items():
        side.name = size
        figures[f"{size}_tokens"] = float(side.recall.capacity)
        figures[f"{size}_append_us"] = appends(side, work, side.recall.capacity)["append_us"]
    drafts(list(sides.values()), work)  # a virtual machine's host maps fresh memory when first read
    for size, row in drafts(list(sides.values()), work).items():
        figures |= {f"{size}_{key}": value for key, value in row.items()}
    for key in ("draft16_us_p50", "draft16_us_p99"):
        figures[f"{key}_ratio"] = figures[f"large_{key}"] / figures[f"small_{key}"]
    return figures


def file_open_ms(tokens: int, folder: Path | None = None) -> float:
    """Milliseconds to open a file of `tokens` slots and draft once from it; it holds one text."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "history.recall"
        text = np.arange(5000, dtype=np.int32)
        recall = Recall.open(path, max_tokens=tokens)
        recall.add(text)
        recall.flush()
        del recall
        return median(_milliseconds(lambda: _open_and_draft(path, text[:20])) for _ in range(5))


def _open_and_draft(path: Path, context: TokenIds) -> None:
    with closing(RecallStream(Recall.open(path, write=False), context)) as stream:
        stream.propose(Budget(NODES))


def _milliseconds(work: Callable[[], object]) -> float:
    start = perf_counter_ns()
    work()
    return (perf_counter_ns() - start) / 1e6


def _switches() -> int:
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return usage.ru_nivcsw + usage.ru_nvcsw


def _resident() -> int:
    """Resident bytes of this process that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("no RssAnon in /proc/self/status; run this on Linux")
