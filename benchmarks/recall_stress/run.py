"""Recall under stress: many read one file while one writes, and writers die at any moment.

    python benchmarks/recall_stress/run.py --seconds 60 --json

Three trials, `--seconds` each, and longer until the ring has wrapped three times: `processes` (a
writer at full speed and readers that map its file), `threads` (the same in one process), `kill` (a
writer is killed by SIGKILL again and again; after each, the file opens, holds all that was added,
and drafts). The ring is small, so that it wraps all the time, and the readers ask most for what is
being overwritten.

Every second token of the text names its sequence and its place there, so one look at a draft tells
whether it is a run of one sequence of history:

    w0  <s,1>  w2  <s,3>  w4  <s,5> ...         w: one of 61 words, a function of s and the place

A drafted path that is none is `torn`; one from a sequence that had left the ring before the draft
began, `stale`; one of another namespace, `leaked`; one of a sequence that had been removed,
`undead`. It ends with exit status 1 where one of these was seen.
"""

from __future__ import annotations

import mmap
import multiprocessing as mp
import os
import random
import signal
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


from benchmarks.common.command import parser, publish, read, require
from benchmarks.recall_stress.judge import (
    FAULTS,
    NODES,
    Judge,
    is_removed,
    namespace_of,
    stride,
    texts,
    write,
)
from draftwood.draft import Budget
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallStream, propose_all

LEAST_WRAPS = 3
"""How often the ring is filled in every trial, however slow the machine is."""
LEAST_KILLS = 5


def processes(path: Path, seconds: float, readers: int, slots: int) -> dict[str, Any]:
    """A writer and readers that map its file."""
    each = stride()
    context = mp.get_context("fork")
    stop, ready = context.Event(), context.Event()
    results: Any = context.Queue()

    def writer() -> None:
        recall = Recall.open(path, max_tokens=slots)
        ready.set()
        results.put(("written", write(recall, 0, stop.is_set, lambda _: None), []))

    def reader(seed: int) -> None:
        recall = Recall.open(path, write=False)
        judge = Judge(recall, seed, each, lambda: recall.written)
        while not stop.is_set():
            judge.ask(recall.written // each)
        results.put(("read", judge.counts, judge.examples))

    children = [context.Process(target=writer)]
    children[0].start()
    ready.wait()
    children += [context.Process(target=reader, args=(seed,)) for seed in range(readers)]
    for child in children[1:]:
        child.start()
    _wait(seconds, Recall.open(path, write=False))
    stop.set()
    told = [results.get() for _ in children]
    for child in children:
        child.join()
    return _summary(told, each, slots)


def _wait(seconds: float, recall: Recall) -> None:
    """So long, and until the ring was filled often enough."""
    time.sleep(seconds)
    while recall.written < LEAST_WRAPS * recall.capacity:
        time.sleep(0.01)


def _summary(told: list[Any], each: int, slots: int) -> dict[str, Any]:
    counts: Counter[str] = sum((part for kind, part, _ in told if kind == "read"), Counter())
    written = sum(part for kind, part, _ in told if kind == "written")
    examples = [example for _, _, some in told for example in some]
    return {
        **{name: counts[name] for name in ("drafts", "nodes", "shared", *FAULTS)},
        "sequences": written,
        "wraps": written * each // slots,
        "examples": examples[:3],
    }


# --- Threads ----------------------------------------------------------------------------------


def threads(path: Path, seconds: float, readers: int, slots: int) -> dict[str, Any]:
    """The same in one process: reader threads draft in batches, on native threads."""
    del path
    each = stride()
    recall = Recall(slots)
    stop = threading.Event()
    told: list[Any] = []

    def writer() -> None:
        told.append(("written", write(recall, 0, stop.is_set, lambda _: None), []))

    def reader(seed: int) -> None:
        judge = Judge(recall, seed, each, lambda: recall.written)
        while not stop.is_set():
            asked = [judge.question(recall.written // each) for _ in range(16)]
            streams = [
                RecallStream(recall, context, namespace=namespace_of(number))
                for number, context in asked
            ]
            before = recall.written
            drafts = propose_all(streams, [Budget(NODES)] * len(streams), threads=2)
            after = recall.written
            for (number, context), draft in zip(asked, drafts, strict=True):
                judge.judge(number, context, draft, before, after)
        told.append(("read", judge.counts, judge.examples))

    running = [threading.Thread(target=writer)]
    running += [threading.Thread(target=reader, args=(seed,)) for seed in range(readers)]
    for thread in running:
        thread.start()
    _wait(seconds, recall)
    stop.set()
    for thread in running:
        thread.join()
    return _summary(told, each, slots)


# --- Death ------------------------------------------------------------------------------------


def kill(path: Path, seconds: float, readers: int, slots: int) -> dict[str, Any]:
    """A writer dies again and again; each time the file opens and holds what was added."""
    del readers
    each = stride()
    chance = random.Random(0)
    counts: Counter[str] = Counter()
    examples: list[str] = []
    shared = mmap.mmap(-1, 8)  # the last sequence that the writer has added
    first = 0
    end = time.monotonic() + seconds
    while (
        time.monotonic() < end
        or counts["kills"] < LEAST_KILLS
        or counts["sequences"] * each < LEAST_WRAPS * slots
    ):
        fresh = chance.random() < 0.1
        if fresh:  # the file's creation may be cut short, too
            path.unlink(missing_ok=True)
        shared[:] = struct.pack("<q", -1)
        child = os.fork()
        if child == 0:
            _write_until_killed(path, slots, first, shared)
        time.sleep(chance.random() * (0.004 if fresh else 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        counts["kills"] += 1
        added = struct.unpack("<q", shared[:])[0]
        recall = Recall.open(path, max_tokens=slots)
        judge = Judge(recall, counts["kills"], each, None)
        for _ in range(10):
            judge.ask(max(added, first))
        if added >= 0:
            counts["sequences"] += added - first + 1
            if not is_removed(added) and not _holds(recall, added):
                counts["lost"] += 1
            first = added + 2  # the next one may have been begun
        counts += judge.counts
        examples += judge.examples
        del recall, judge
    names = ("kills", "sequences", "drafts", "nodes", "shared", *FAULTS)
    return {
        **{name: counts[name] for name in names},
        "wraps": counts["sequences"] * each // slots,
        "examples": examples[:3],
    }


def _write_until_killed(path: Path, slots: int, first: int, shared: mmap.mmap) -> None:
    try:
        recall = Recall.open(path, max_tokens=slots)

        def done(number: int) -> None:
            shared[:] = struct.pack("<q", number)
            if number % 300 == 299:
                recall.flush()

        write(recall, first, lambda: False, done)
    finally:
        os._exit(1)


def _holds(recall: Recall, number: int) -> bool:
    """Whether a draft after the beginning of a sequence goes on as the sequence does."""
    text = texts(number, 1)[0]
    with closing(RecallStream(recall, text[:6], namespace=namespace_of(number))) as stream:
        return int(text[6]) in stream.propose(Budget(4)).tokens.tolist()


TRIALS = {"processes": processes, "threads": threads, "kill": kill}


def main() -> None:
    options = _options()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.trials or TRIALS:
            path = Path(folder) / f"{name}.recall"
            figures[name] = TRIALS[name](path, options.seconds, options.readers, options.slots)
            row = {key: value for key, value in figures[name].items() if key != "examples"}
            print(f"{name:10}", "  ".join(f"{key} {value:,}" for key, value in row.items()))
            for example in figures[name]["examples"]:
                print("  ", example)
    asked = all(row["drafts"] for row in figures.values())
    faults = {fault for row in figures.values() for fault in FAULTS if row[fault]}
    publish(figures, options)
    require(asked, "drafts were asked for in every trial")
    require(not faults, f"no draft is {', '.join(sorted(faults))}")


def _options() -> Any:
    made = parser(__doc__)
    made.add_argument("trials", nargs="*", metavar="TRIAL", help=f"of {', '.join(TRIALS)}; all")
    made.add_argument("--seconds", type=float, default=60.0, help="of each trial")
    made.add_argument("--readers", type=int, default=8)
    made.add_argument("--slots", type=int, default=8192)
    options = read(made, seconds=0.5, readers=2)
    if unknown := set(options.trials) - set(TRIALS):
        made.error(f"no trial {', '.join(sorted(unknown))}; there are {', '.join(TRIALS)}")
    return options


if __name__ == "__main__":
    main()
