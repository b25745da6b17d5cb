"""Time that the parts of a run may take, and what there was no time for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")


class Clock:
    """The time of one part.

    seconds: from now on. skipped: names of what was left out.
    """

    def __init__(self, seconds: float) -> None:
        self._start, self._seconds = perf_counter(), seconds
        self.skipped: list[str] = []

    @property
    def left(self) -> float:
        """Seconds until its end."""
        return self._start + self._seconds - perf_counter()

    def each(self, items: Iterable[tuple[str, T]]) -> Iterator[tuple[str, T]]:
        """The items, by name, that begin before the end; the others are written down."""
        for name, item in items:
            if self.left > 0:
                yield name, item
            else:
                self.skipped.append(name)
