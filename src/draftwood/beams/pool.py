"""Beams: different texts after one prompt, each with its likelihood and how often it was drawn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from draftwood.draft import TokenIds
from draftwood.verify.laws import Probabilities, normalized

Prefix: TypeAlias = tuple[int, ...]
"""Tokens of one beam after the committed text."""


@dataclass(frozen=True, slots=True, eq=False)
class Beam:
    """A sequence and how often it was drawn.

    tokens: int32, generated so far. count: how many of the `width` draws are this sequence. weight:
    its likelihood divided by that of the likeliest beam.
    """

    tokens: TokenIds
    count: int
    weight: Any


class BeamPool:
    """Different prefixes after the committed text, each with likelihood and number of draws."""

    def __init__(
        self,
        prefixes: list[Prefix],
        weights: list[Any],
        counts: list[int],
        end_tokens: Collection[int],
    ) -> None:
        self.prefixes, self.weights, self.counts = prefixes, weights, counts
        self.end_tokens = end_tokens

    def ended(self, prefix: Prefix) -> bool:
        """Whether its last token ends a text."""
        return bool(prefix) and prefix[-1] in self.end_tokens

    def known(self, nodes: dict[Prefix, int]) -> bool:
        """Whether a pass gave rows after all of them."""
        return all(prefix in nodes for prefix in self.prefixes)

    def law(self, row: Callable[[Prefix], Probabilities]) -> tuple[Probabilities, int]:
        """The law over all extensions, end to end, and the size of each prefix's part.

        Its last entry is for staying, which is all that an ended prefix does. row: the law of the
        token after a prefix.
        """
        rows = [None if self.ended(prefix) else row(prefix) for prefix in self.prefixes]
        example = next(row for row in rows if row is not None)
        size = len(example) + 1
        joined = np.zeros(size * len(rows), dtype=example.dtype)
        for at, (one, weight, count) in enumerate(
            zip(rows, self.weights, self.counts, strict=True)
        ):
            if one is None:
                joined[(at + 1) * size - 1] = weight * count
            else:
                joined[at * size : (at + 1) * size - 1] = one * (weight * count)
        return normalized(joined), size

    def extended(self, draws: Iterable[int], pool_law: Probabilities, size: int) -> BeamPool:
        """What some draws from the law over extensions give."""
        found: dict[Prefix, tuple[Any, int]] = {}
        for draw in draws:
            at, token = divmod(draw, size)
            prefix = self.prefixes[at]
            longer = prefix if token == size - 1 else (*prefix, token)
            weight = pool_law[draw] / self.counts[at]
            found[longer] = (weight, found.get(longer, (weight, 0))[1] + 1)
        top = max(weight for weight, _ in found.values())
        weights = [weight / top for weight, _ in found.values()]
        return BeamPool(
            list(found), weights, [count for _, count in found.values()], self.end_tokens
        )

    def common(self) -> Prefix:
        """The tokens that all prefixes begin with."""
        first, last = min(self.prefixes), max(self.prefixes)
        for at, (a, b) in enumerate(zip(first, last, strict=False)):
            if a != b:
                return first[:at]
        return first

    def after(self, count: int) -> BeamPool:
        """The same pool, once `count` tokens of all prefixes are committed."""
        prefixes = [prefix[count:] for prefix in self.prefixes]
        return BeamPool(prefixes, self.weights, self.counts, self.end_tokens)

    def beams(self, done: TokenIds) -> tuple[Beam, ...]:
        """The pool as its users see it, `done` in front of all prefixes."""
        texts = [
            np.concatenate((done, np.array(prefix, dtype=np.int32))) for prefix in self.prefixes
        ]
        return tuple(map(Beam, texts, self.counts, self.weights))
