"""The table of costs, and the clocks that fill it.

Ratios are peer / ours: above 1, ours is better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter_ns, thread_time_ns

import numpy as np


@dataclass(slots=True)
class Row:
    """One line of the table: values of both sides in `unit`, and peer / ours."""

    what: str
    unit: str
    ours: float
    peer: float
    ratio: float

    @classmethod
    def of(cls, what: str, unit: str, ours: Sequence[float], peer: Sequence[float]) -> Row:
        """Medians of both sides, and the median of the ratios pair by pair."""
        ratios = [p / max(o, 1e-12) for o, p in zip(ours, peer, strict=True)]
        return cls(what, unit, median(ours), median(peer), median(ratios))

    @classmethod
    def at(
        cls, what: str, unit: str, share: float, ours: Sequence[float], peer: Sequence[float]
    ) -> Row:
        """A quantile of both sides, and its ratio."""
        o, p = (float(np.quantile(side, share)) for side in (ours, peer))
        return cls(what, unit, o, p, p / max(o, 1e-12))


@dataclass(slots=True)
class Table:
    """All rows at one depth and number of stored tokens."""

    depth: int
    tokens: int
    rows: dict[str, Row] = field(default_factory=dict)

    def add(self, key: str, row: Row) -> None:
        """Keep a row under a key for the JSON object."""
        self.rows[key] = row


def thread_us(work: Callable[[], object]) -> float:
    """Microseconds of this thread's CPU time."""
    start = thread_time_ns()
    work()
    return (thread_time_ns() - start) / 1e3


def wall_us(work: Callable[[], object]) -> float:
    """Microseconds of wall clock."""
    start = perf_counter_ns()
    work()
    return (perf_counter_ns() - start) / 1e3
