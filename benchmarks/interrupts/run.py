"""How soon Ctrl-C ends each long call: from the signal to the exception, in milliseconds.

    python benchmarks/interrupts/run.py [--times 5] [--json]

Each call has far more to do than it gets time for; a thread sends SIGINT to the process at moments
spread over the call's first 0.4 seconds. Where a call was done before, it is made again. `longest`
is due to be below 200 ms where nothing else runs and the disk takes 32 MB in that time.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.common.command import parser, publish, read, require
from draftwood.draft import TokenIds
from draftwood.drafters.suffix import SuffixDrafter
from draftwood.index.history import History
from draftwood.index.history_writer import HistoryWriter
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallStream
from draftwood.index.suffix_tree import SuffixTree

Prepared = Callable[[], object]
"""A call that can be made again."""


def calls(text: TokenIds, folder: Path) -> dict[str, Callable[[], Prepared]]:
    """By name: what prepares each call, which then takes long."""
    history = folder / "whole.dw"
    with HistoryWriter(history) as out:
        out.add(text)

    def removal() -> Prepared:
        recall = Recall(2 * len(text))
        sequence = recall.add(text)
        return lambda: recall.remove(sequence)

    def eviction() -> Prepared:
        drafter = SuffixDrafter()
        stream = drafter.open(text[:1])
        stream.observe(text[: len(text) // 8])
        return lambda: drafter.remove(stream.sequence)

    def writing() -> Prepared:
        return lambda: _written(folder / "new.dw", text)

    def file() -> Prepared:
        path = folder / "new.recall"
        path.unlink(missing_ok=True)
        return lambda: Recall.open(path, max_tokens=16 * len(text)).close()

    def flush() -> Prepared:
        path = folder / "flushed.recall"
        path.unlink(missing_ok=True)
        recall = Recall.open(path, max_tokens=2 * len(text))
        recall.add(text)
        return recall.flush

    return {
        "Recall.add": lambda: lambda: Recall(len(text)).add(text),
        "Recall.remove": removal,
        "Recall, a prompt": lambda: lambda: closing(RecallStream(Recall(4096), text)),
        "Recall, a new file": file,
        "Recall.flush": flush,
        "SuffixTree.begin": lambda: lambda: SuffixTree(64).begin(text),
        "SuffixDrafter, a prompt": lambda: lambda: SuffixDrafter().open(text).close(),
        "SuffixDrafter.remove": eviction,
        "HistoryWriter": writing,
        "History.open": lambda: lambda: _read(history),
    }


def _written(path: Path, text: TokenIds) -> None:
    with HistoryWriter(path) as out:
        for _ in range(8):
            out.add(text)


def _read(path: Path) -> None:
    for _ in range(100):
        History.open(path)


def latency(call: Prepared, delay: float) -> float | None:
    """Seconds from SIGINT, sent after `delay`, to the exception; None: the call was done before."""
    sent = 0.0

    def send() -> None:
        nonlocal sent
        sent = time.perf_counter()
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(delay, send)
    within = False
    try:
        timer.start()
        within = True
        call()
        within = False
        timer.join()
        time.sleep(0.01)  # a signal that is on its way is not of the next call
    except KeyboardInterrupt:
        return time.perf_counter() - sent if within else None
    return None


def measured(prepare: Callable[[], Prepared], times: int, longest_delay: float) -> dict[str, Any]:
    """Milliseconds of several interrupts of a call."""
    found: list[float] = []
    for attempt in range(4 * times):
        delay = longest_delay * (attempt % times + 1) / times / (1 + attempt // times)
        taken = latency(prepare(), delay)
        if taken is not None:
            found.append(1000 * taken)
        if len(found) == times:
            break
    return {
        "interrupts": len(found),
        "median_ms": round(median(found), 1) if found else None,
        "longest_ms": round(max(found), 1) if found else None,
    }


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--times", type=int, default=5, help="that each call is interrupted")
    made.add_argument("--tokens", type=int, default=10_000_000, help="of the text")
    options = read(made, times=2, tokens=200_000)
    text = np.random.default_rng(0).integers(0, 32_000, options.tokens).astype(np.int32)
    rows = []
    with TemporaryDirectory(prefix="draftwood-interrupts-") as folder:
        for name, prepare in calls(text, Path(folder)).items():
            row = {"call": name, **measured(prepare, options.times, 0.01 if options.smoke else 0.4)}
            rows.append(row)
            print(
                f"{name:24} {row['interrupts']:3} interrupts, median {row['median_ms']} ms, "
                f"longest {row['longest_ms']} ms",
                flush=True,
            )
    if not options.smoke:  # where a smoke run's calls may all be done before
        require(any(row["interrupts"] for row in rows), "some call is interrupted")
    publish({"rows": rows, "tokens": options.tokens}, options)


if __name__ == "__main__":
    main()
