"""The source of randomness of verifiers, as a protocol of two methods, and a seeded one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from draftwood.errors import InvalidOption

Weights: TypeAlias = NDArray[Any] | Sequence[Any]
"""Numbers >= 0, one a token, in proportion to which one token is drawn; they need not sum to 1."""


class Chance(Protocol):
    """A source of randomness. Both methods take any kind of number, exact fractions included."""

    def accept(self, probability: Any) -> bool:
        """True with this probability (values beyond [0, 1] count as the nearer end)."""

    def pick(self, weights: Weights) -> int:
        """An index, drawn in proportion to the weights; at least one of them is positive."""


class SeededChance:
    """Chance from a NumPy generator: the same seed gives the same choices. Not thread-safe."""

    def __init__(self, seed: int) -> None:
        if seed < 0:
            raise InvalidOption(f"seed {seed} is negative; use 0 or more")
        self._seed = seed
        self._random = np.random.Generator(np.random.PCG64(seed))

    def __repr__(self) -> str:
        return f"SeededChance({self._seed})"

    def accept(self, probability: float) -> bool:
        """True where the next uniform number in [0, 1) is below `probability`."""
        return bool(self._random.random() < probability)

    def pick(self, weights: Weights) -> int:
        """An index drawn by inverting the cumulative sum of the weights."""
        sums = np.cumsum(np.asarray(weights, dtype=np.float64))
        at = int(np.searchsorted(sums, self._random.random() * sums[-1], side="right"))
        if at == len(sums):  # the product was rounded up to the total
            at = int(np.searchsorted(sums, sums[-1]))
        return at
