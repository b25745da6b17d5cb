"""What Recall's operations cost, in time and bytes: the figures of `recall.py`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from time import perf_counter, thread_time

import numpy as np

from draftwood.draft import TokenIds
from draftwood.index.recall import (
    Recall,
    RecallPolicy,
    RecallStream,
    observe_all,
    propose_all,
)
from draftwood.replay.trace import Record

STEP = 3
"""Tokens that a request moves between two drafts: about what a step generates."""


def fill(recall: Recall, records: Sequence[Record]) -> float:
    """Add responses until the ring has been written once; microseconds a token.

    Once round, the tokens are shuffled by a random map of ids, so that history has the structure
    of text and is not the same text again.
    """
    rng = np.random.default_rng(0)
    limit = 1 + max(int(record.response.max()) for record in records)
    tokens, seconds, turn = 0, 0.0, 0
    renamed: TokenIds = np.arange(limit, dtype=np.int32)
    while recall.written < recall.capacity:
        text = renamed[np.concatenate([record.response for record in records])]
        parts = [text[at : at + 4096] for at in range(0, len(text), 4096)]
        start = thread_time()
        for part in parts:
            recall.add(part)
        seconds += thread_time() - start
        tokens += len(text)
        turn += 1
        renamed = rng.permutation(limit).astype(np.int32)
    return 1e6 * seconds / tokens


def draft_times(
    recall: Recall, records: Sequence[Record], *, nodes: int, drafts: int
) -> tuple[float, float]:
    """Microseconds of wall clock that one native draft takes: p50 and p99."""
    times: list[float] = []
    for record in records:
        if len(times) >= drafts:
            break
        with closing(RecallStream(recall, record.prompt)) as stream:
            native = stream._native  # the call that an engine's adapter makes
            for at in range(0, min(len(record.response), 60 * STEP) - STEP, STEP):
                start = perf_counter()
                native.propose(nodes, nodes)
                times.append(perf_counter() - start)
                stream.observe(record.response[at : at + STEP])
    p50, p99 = np.percentile(times, (50, 99)).tolist()
    return 1e6 * p50, 1e6 * p99


def prompt_times(recall: Recall, records: Sequence[Record], size: int) -> tuple[float, float]:
    """Milliseconds to open a request with a prompt of `size` tokens, and to close it: medians."""
    text = np.concatenate([part for record in records for part in (record.prompt, record.response)])
    prompt = np.resize(text, size).astype(np.int32)
    opened, closed = [], []
    for _ in range(9):
        start = perf_counter()
        stream = RecallStream(recall, prompt)
        middle = perf_counter()
        stream.close()
        opened.append(middle - start)
        closed.append(perf_counter() - middle)
    return 1e3 * float(np.median(opened)), 1e3 * float(np.median(closed))


def batch_ms(
    recall: Recall, records: Sequence[Record], *, batch: int, nodes: int, threads: int
) -> float:
    """Milliseconds of one decode step of a batch, append and draft: the median of 30."""
    chosen = [record for record in records if len(record.response) >= 31 * STEP]
    if not chosen:
        chosen = list(records)
    chosen = [chosen[i % len(chosen)] for i in range(batch)]
    policy = RecallPolicy(floor=0.005)
    streams = [RecallStream(recall, record.prompt, policy=policy) for record in chosen]
    times = []
    for step in range(30):
        part = slice(step * STEP, (step + 1) * STEP)
        tokens = [np.resize(record.response, 31 * STEP)[part] for record in chosen]
        start = perf_counter()
        observe_all(streams, tokens, threads=threads)
        propose_all(streams, nodes, threads=threads)
        times.append(perf_counter() - start)
    for stream in streams:
        stream.close()
    return 1e3 * float(np.median(times))


def file_open_ms(tokens: int, folder: Path | None = None) -> float:
    """Milliseconds to open a file of `tokens` slots and draft once from it; it holds one text."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "history.recall"
        text = np.arange(5000, dtype=np.int32)
        recall = Recall.open(path, max_tokens=tokens)
        recall.add(text)
        recall.flush()
        del recall
        return _milliseconds(lambda: _open_and_draft(path, text[:20]))


def _open_and_draft(path: Path, context: TokenIds) -> None:
    with closing(RecallStream(Recall.open(path, write=False), context)) as stream:
        stream.propose(16)


def _milliseconds(work: Callable[[], None]) -> float:
    start = perf_counter()
    work()
    return 1e3 * (perf_counter() - start)
