"""How sure a gain is: a bootstrap over sessions (Efron, 1979)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from draftwood.advise.ledger import Values
from draftwood.logs.call import Record

_RESAMPLES = 1000
Units = NDArray[np.intp]
_FEWEST = 8
"""Sessions below which requests are drawn in their place."""


@dataclass(frozen=True, slots=True)
class GainInterval:
    """Time without drafts over time with them, and the bounds of its 95 % interval."""

    speedup: float
    low: float
    high: float


def units(records: Sequence[Record]) -> Units:
    """intp [records]: the session of each request, from 0; of each request where those are few."""
    names = [each.session or f"~{each.number}" for each in records]
    found = np.unique(names, return_inverse=True)[1].reshape(-1)
    many = len(found) and found.max() + 1 >= _FEWEST
    return found if many else np.arange(len(records))


def gain_of(plain: Values, drafted: Values, unit: Units, *, seed: int = 0) -> GainInterval:
    """The gain of some requests: their times, and the session that each belongs to.

    Whole sessions are drawn, since requests of one session gain or lose together.
    """
    if not len(plain) or not drafted.sum():
        return GainInterval(1.0, 1.0, 1.0)
    number = np.unique(unit, return_inverse=True)[1].reshape(-1)
    sides = np.stack([np.bincount(number, weights=each) for each in (plain, drafted)])
    count = sides.shape[1]
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), _RESAMPLES)
    sums = drawn @ sides.T
    ratios = sums[:, 0] / np.maximum(sums[:, 1], 1e-300)
    low, high = np.percentile(ratios, (2.5, 97.5)).tolist()
    return GainInterval(float(plain.sum() / drafted.sum()), low, high)
