"""How siblings must be sampled for each rule that verifies sampled drafts.

A rule is lossless only for the way of drawing it was made for; `docs/verification.md` says which
belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from draftwood.sampling.chance import Chance, Weights

Draw: TypeAlias = Callable[[Chance, Weights, Sequence[int]], int | None]
"""From q, and the siblings drawn so far, to the next one; None where there can be no more."""


def independent(chance: Chance, q: Weights, siblings: Sequence[int]) -> int | None:
    """For MultiRound, KSeq and TraversalVerification(replacement=True): tokens may repeat."""
    return chance.pick(q)


def distinct(chance: Chance, q: Weights, siblings: Sequence[int]) -> int | None:
    """For RecursiveRejection and TraversalVerification: no token twice."""
    rest = np.array(q)
    rest[list(siblings)] = 0
    return chance.pick(rest) if rest.any() else None


def hub_pair(chance: Chance, q: Weights, siblings: Sequence[int]) -> int | None:
    """For SpecHub: two tokens, exactly one of them the likeliest (ties: the lowest id)."""
    if not siblings:
        return chance.pick(q)
    hub = int(np.argmax(np.asarray(q)))
    if len(siblings) == 1:
        return distinct(chance, q, siblings) if siblings[0] == hub else hub
    return None
