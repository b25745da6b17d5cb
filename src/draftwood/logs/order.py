"""Calls in the order in which they were asked, and how many were in flight."""

from __future__ import annotations

import heapq
import pickle
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise

from draftwood.logs.call import LoggedCall

_WINDOW = 4096
"""Calls that are looked over at once: a log in the order of the answers is sorted by this."""


def in_order(calls: Iterable[LoggedCall], *, window: int = _WINDOW) -> Iterator[LoggedCall]:
    """The calls by their start; those without one keep their place after the call before them.

    Up to `window` calls are held; Ctrl-C in the reading is raised when these have been given. A log
    whose first ones run backwards in time (exports often begin with the newest) is sorted as a
    whole, in a temporary file.
    """
    rest = iter(calls)
    first: list[LoggedCall] = []
    try:
        first += islice(rest, window)
    except KeyboardInterrupt:
        rest = _interrupted()
    if _backwards(first) and len(first) == window:
        yield from _sorted_on_disk(first, rest)
        return
    waiting: list[tuple[float, int, LoggedCall]] = []
    latest, interrupted = float("-inf"), False
    try:
        for number, call in enumerate(_chained(first, rest)):
            latest = call.start if call.start is not None else latest
            heapq.heappush(waiting, (latest, number, call))
            if len(waiting) >= window:
                yield heapq.heappop(waiting)[2]
    except KeyboardInterrupt:
        interrupted = True
    while waiting:
        yield heapq.heappop(waiting)[2]
    if interrupted:
        raise KeyboardInterrupt


def _interrupted() -> Iterator[LoggedCall]:
    """What is left where Ctrl-C came: nothing, and then Ctrl-C."""
    yield from ()
    raise KeyboardInterrupt


def _chained(first: list[LoggedCall], rest: Iterator[LoggedCall]) -> Iterator[LoggedCall]:
    yield from first
    yield from rest


def _backwards(calls: list[LoggedCall]) -> bool:
    starts = [call.start for call in calls if call.start is not None]
    falls = sum(b < a for a, b in pairwise(starts))
    return 2 * falls > len(starts)


def _sorted_on_disk(first: list[LoggedCall], rest: Iterator[LoggedCall]) -> Iterator[LoggedCall]:
    database = sqlite3.connect("")
    try:
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("CREATE TABLE call (start REAL, number INTEGER, stored BLOB)")
        latest = float("inf")
        for number, call in enumerate(_chained(first, rest)):
            latest = call.start if call.start is not None else latest
            # what runs backwards is of one time in the other order as well
            row = (latest, -number, zlib.compress(pickle.dumps(call), 1))
            database.execute("INSERT INTO call VALUES (?, ?, ?)", row)
        for (stored,) in database.execute("SELECT stored FROM call ORDER BY start, number"):
            yield pickle.loads(zlib.decompress(stored))
    finally:
        database.close()


class InFlight:
    """How many requests were in flight, from the starts and ends of calls in order of start.

    mean: over the time in which any was; peak: at the start of a call. 0 where no call tells both.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._busy = self._area = 0.0
        self._until = float("-inf")
        self._ends: list[float] = []

    def add(self, start: float | None, end: float | None) -> None:
        """Count a call."""
        if start is None or end is None or end <= start:
            return
        while self._ends and self._ends[0] <= start:
            heapq.heappop(self._ends)
        heapq.heappush(self._ends, end)
        self.peak = max(self.peak, len(self._ends))
        self._area += end - start
        self._busy += max(0.0, end - max(start, self._until))
        self._until = max(self._until, end)

    @property
    def mean(self) -> float:
        """Requests in flight on average, while there was any."""
        return self._area / self._busy if self._busy else 0.0
