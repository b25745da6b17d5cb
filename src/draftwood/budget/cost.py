"""What verification costs: the time of a target's pass by how many drafted tokens it checks.

t(n) of docs/budgets.md. This file has curves that are given; `MeasuredCost` (measured.py) learns
the curve of a running target.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import isfinite
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from draftwood.errors import InvalidOption

Times = NDArray[np.float64]
"""float64 [n + 1]: t(0), t(1), .. t(n)."""


class VerifyCost(Protocol):
    """The time of a pass, in any unit: only ratios count."""

    def seconds(self, drafted: int, *, batch: int = 1, context: int = 0) -> float:
        """A pass over `batch` sequences that verifies `drafted` (>= 0) tokens in all, > 0.

        context: tokens of the longest sequence; 0: not known. `seconds(0)` is a plain step.
        """


@runtime_checkable
class LearnedCost(VerifyCost, Protocol):
    """A cost that is learned from timed passes, in wall-clock seconds."""

    def observe(self, drafted: int, seconds: float, *, batch: int = 1, context: int = 0) -> None:
        """Learn from a pass that took `seconds`."""


@runtime_checkable
class TabledCost(VerifyCost, Protocol):
    """A cost that gives the times of many sizes of draft at once."""

    def times(self, most: int, *, batch: int = 1, context: int = 0) -> Times:
        """float64 [most + 1]: `seconds(0)` to `seconds(most)`. Borrowed: do not write."""


@cache
def _gives_tables(kind: type) -> bool:
    return issubclass(kind, TabledCost)  # many microseconds, so once for a class


def times(cost: VerifyCost, most: int, *, batch: int = 1, context: int = 0) -> Times:
    """t(0) to t(most) at once: a `TabledCost` is asked once, others once for each size."""
    if _gives_tables(type(cost)):
        return cast(TabledCost, cost).times(most, batch=batch, context=context)
    each = (cost.seconds(n, batch=batch, context=context) for n in range(most + 1))
    return np.fromiter(each, np.float64, most + 1)


@dataclass(frozen=True, slots=True)
class LinearCost:
    """t(n) = step + per_token * n, at every batch size.

    Raises:
        InvalidOption: a step of no time, or a negative time for a token.
    """

    per_token: float
    step: float = 1.0

    def __post_init__(self) -> None:
        if not (isfinite(self.step) and self.step > 0.0):
            raise InvalidOption(f"step is {self.step}; a plain step takes time, use 1.0")
        if not (isfinite(self.per_token) and self.per_token >= 0.0):
            raise InvalidOption(f"per_token is {self.per_token}; use 0 or more, such as 0.01")

    def seconds(self, drafted: int, *, batch: int = 1, context: int = 0) -> float:
        """step + per_token * drafted."""
        return self.step + self.per_token * drafted

    def times(self, most: int, *, batch: int = 1, context: int = 0) -> Times:
        """The same for 0 to `most` drafted tokens. Borrowed: do not write."""
        return _given(self, _room(most), batch)[: most + 1]


@dataclass(frozen=True, slots=True)
class GeometricCost:
    """t(n) = growth ** n: every drafted token makes the step longer by the same factor.

    Raises:
        InvalidOption: a growth below 1.
    """

    growth: float

    def __post_init__(self) -> None:
        if not (isfinite(self.growth) and self.growth >= 1.0):
            raise InvalidOption(f"growth is {self.growth}; use 1.0 or more, such as 1.05")

    def seconds(self, drafted: int, *, batch: int = 1, context: int = 0) -> float:
        """growth ** drafted; infinite where that is too large for a float."""
        try:
            return float(self.growth**drafted)
        except OverflowError:
            return float("inf")

    def times(self, most: int, *, batch: int = 1, context: int = 0) -> Times:
        """The same for 0 to `most` drafted tokens. Borrowed: do not write."""
        return _given(self, _room(most), batch)[: most + 1]


Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class CurveCost:
    """Measured points, joined by straight lines and carried on with the last slope.

    curves: batch size -> points (drafted tokens in all, time), sorted, the first at 0 drafted
    tokens. Between two batch sizes times are interpolated, beyond them the nearest curve holds; a
    single curve holds for every batch size. Measured times may fall; the continuation never does.
    `of` and `read` make one.
    """

    curves: tuple[tuple[int, Points], ...]

    @classmethod
    def of(
        cls, points: Iterable[Sequence[float]] | Mapping[int, Iterable[Sequence[float]]]
    ) -> CurveCost:
        """From (drafted, time) points, or from such points for each of several batch sizes.

        Raises:
            InvalidOption: no points, none at 0 drafted tokens, two at the same, or invalid times.
        """
        if not isinstance(points, Mapping):
            points = {1: points}
        if not points:
            raise InvalidOption("a cost curve has no points; give at least [0, seconds]")
        return cls(tuple((_batch(b), _points(points[b], b)) for b in sorted(points, key=_batch)))

    @classmethod
    def read(cls, path: str | Path) -> CurveCost:
        """From a JSON file: `{"points": [[0, 1.0], [16, 1.3]]}`, times in any unit.

        For several batch sizes: `{"batches": {"1": [[0, 1.0], ..], "16": [[0, 1.2], ..]}}`.

        Raises:
            InvalidOption: for a file that cannot be read or holds something else.
        """
        try:
            found = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidOption(
                f"cost curve {str(path)!r} cannot be read ({error}); give a JSON file"
            ) from error
        points = found.get("points", found.get("batches")) if isinstance(found, dict) else None
        if not isinstance(points, (list, dict)):
            raise InvalidOption(
                f"cost curve {str(path)!r} has no points; write "
                '{"points": [[0, 1.0], [16, 1.3]]} or {"batches": {"1": [..], "16": [..]}}'
            )
        return cls.of(points)

    def seconds(self, drafted: int, *, batch: int = 1, context: int = 0) -> float:
        """The time on the curve."""
        sizes = [size for size, _ in self.curves]
        above = bisect_right(sizes, batch)
        low, high = max(above - 1, 0), min(above, len(sizes) - 1)
        first = _on(self.curves[low][1], drafted)
        if sizes[high] <= sizes[low] or batch <= sizes[low]:
            return first
        share = (batch - sizes[low]) / (sizes[high] - sizes[low])
        return first + share * (_on(self.curves[high][1], drafted) - first)

    def times(self, most: int, *, batch: int = 1, context: int = 0) -> Times:
        """The same for 0 to `most` drafted tokens. Borrowed: do not write."""
        return _given(self, _room(most), batch)[: most + 1]


GivenCost = LinearCost | GeometricCost | CurveCost


@lru_cache(maxsize=64)
def _given(cost: GivenCost, most: int, batch: int) -> Times:
    found = np.array([cost.seconds(n, batch=batch) for n in range(most + 1)])
    found.flags.writeable = False
    return found


def _room(most: int) -> int:
    """The power of two from 64 up that holds `most`: few curves serve all requests."""
    return max(64, 1 << (most - 1).bit_length()) if most > 0 else 64


def _on(points: Points, drafted: float) -> float:
    """The time at `drafted` on a line through the points."""
    at = bisect_right(points, (drafted, float("inf")))
    if at < len(points):
        (x0, y0), (x1, y1) = points[at - 1], points[at]
        return y0 + (y1 - y0) * (drafted - x0) / (x1 - x0)
    x0, y0 = points[-1]
    return y0 + _last_slope(points) * (drafted - x0)


def _last_slope(points: Points) -> float:
    if len(points) < 2:
        return 0.0
    (x0, y0), (x1, y1) = points[-2:]
    return max(0.0, (y1 - y0) / (x1 - x0))


def _points(points: Iterable[Sequence[float]], batch: Any) -> Points:
    try:
        found = sorted((float(drafted), float(time)) for drafted, time in points)
    except (TypeError, ValueError) as error:
        raise InvalidOption(
            f"the cost curve of batch {batch} holds something that is no (drafted, time) pair"
            f" ({error}); write [[0, 1.0], [16, 1.3]]"
        ) from error
    if not found or found[0][0] != 0.0:
        begins = f"begins at {found[0][0]:g} drafted tokens" if found else "has no points"
        raise InvalidOption(f"the cost curve of batch {batch} {begins}; time a plain step, [0, t]")
    for (drafted, time), after in zip(found, [*found[1:], None], strict=True):
        if not (isfinite(drafted) and isfinite(time) and time > 0.0):
            raise InvalidOption(f"point [{drafted:g}, {time:g}] is no time; use seconds above 0")
        if after is not None and after[0] == drafted:
            raise InvalidOption(f"two points at {drafted:g} drafted tokens; give their median")
    return tuple(found)


def _batch(size: Any) -> int:
    try:
        batch = int(size)
    except (TypeError, ValueError):
        batch = 0
    if batch < 1:
        raise InvalidOption(f"batch size {size!r} of a cost curve is none; use 1 or more")
    return batch
