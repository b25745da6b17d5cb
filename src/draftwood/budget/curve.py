"""A measured cost curve, and its file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from draftwood.budget.cost import CurveCost
from draftwood.errors import InvalidOption

_STEPS = 16
"""Output tokens whose rate is the time of a plain pass, where an engine is seen from outside."""
_BUSY = 0.5
"""A spread from which a curve means little."""
_LEAST = 1e-6
"""Seconds of a pass at least: differences of noisy times may be negative."""
BATCHES = (1, 2, 4, 8)
DRAFTED = (0, 1, 2, 4, 8, 16, 32)
"""Drafted tokens of each sequence."""


@dataclass(frozen=True, slots=True)
class CostCurve:
    """Measured seconds. batches: batch size -> (drafted tokens of all sequences, seconds) points.

    about: what was measured and how, for whoever reads the file. spread: the widest part between
    the quartiles of one point's repeats, beside its median: how good the figures are.
    """

    batches: Mapping[int, Sequence[tuple[int, float]]]
    spread: float
    about: Mapping[str, Any] = field(default_factory=dict)

    def cost(self) -> CurveCost:
        """The curve as a cost."""
        return CurveCost.of({size: [list(p) for p in each] for size, each in self.batches.items()})

    def as_json(self) -> str:
        """The file that `--cost-curve` reads."""
        found = {str(size): [list(p) for p in each] for size, each in self.batches.items()}
        told = {"unit": "seconds", "spread": round(self.spread, 4), **self.about}
        return json.dumps({"batches": found, **told}, indent=1) + "\n"

    def summary(self) -> str:
        """In a sentence: what a plain pass and a long draft take, and how good that is."""
        size, points = min(self.batches.items())
        (_, plain), (tokens, drafted) = points[0], points[-1]
        trust = (
            "" if self.spread < _BUSY else "; the machine was busy: measure again when it is not"
        )
        return (
            f"at batch {size} a plain pass takes {plain * 1e3:.2f} ms, one with {tokens} drafted "
            f"tokens {drafted / plain:.2f} times as long; repeats varied by {self.spread:.0%}"
            f"{trust}"
        )


def spread_of(times: Sequence[float]) -> float:
    """The range between the quartiles, beside the median."""
    low, high = np.percentile(times, (25, 75)).tolist()
    return float(high - low) / median(times)


def check_sizes(batches: Sequence[int], drafted: Sequence[int], context: int, repeats: int) -> None:
    """Refuse what cannot be measured.

    Raises:
        InvalidOption: sizes below 1, or no point at 0 drafted tokens.
    """
    least = min((*batches, context, repeats), default=0)
    if least < 1:
        raise InvalidOption(f"a batch, context or repeat is {least}; use 1 or more")
    if 0 not in drafted or min(drafted) < 0:
        raise InvalidOption(f"drafted tokens are {list(drafted)}; measure 0 as well, a plain pass")


def estimated_curve(
    batch_of: Callable[[int], Callable[[int, int], float]],
    *,
    batches: Sequence[int],
    drafted: Sequence[int],
    repeats: int,
    about: Mapping[str, Any],
    progress: Callable[[float], None] | None = None,
) -> CostCurve:
    """A curve of an engine that is seen from outside, by requests whose prompts differ in length.

    batch_of: gives, for a batch size, a function that sends so many requests at once and returns
    the seconds until all are answered. Its arguments: tokens of each prompt that the engine has not
    computed before, and tokens of each answer. A plain pass is the time of 16 more output tokens,
    divided by 16; what a longer prompt adds to an answer of one token is the time of drafted ones.
    The spread is that of the repeats beside a plain pass: a smaller difference means nothing.
    """
    found: dict[int, list[tuple[int, float]]] = {}
    spreads = []
    for at, batch in enumerate(batches):
        at_once = batch_of(batch)
        at_once(1, 1)  # fills the prefix cache, and warms up
        long = [at_once(1, 1 + _STEPS) for _ in range(repeats)]
        times: dict[int, list[float]] = {n: [] for n in drafted}
        for _ in range(repeats):
            for n in drafted:
                times[n].append(at_once(1 + n, 1))
        short = median(times[0])
        plain = max((median(long) - short) / _STEPS, _LEAST)
        found[batch] = [
            (n * batch, max(plain + median(each) - short, _LEAST)) for n, each in times.items()
        ]
        spreads += [spread_of(each) * median(each) / plain for each in times.values()]
        if progress is not None:
            progress((at + 1) / len(batches))
    return CostCurve(found, max(spreads), {**about, "repeats": repeats})
