"""The draft of beam sampling: beams, and below them layers that the small model drew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from draftwood.beams.pool import BeamPool, Prefix
from draftwood.draft import Draft
from draftwood.errors import InvalidDraft
from draftwood.protocols import Rows
from draftwood.sampling.chance import Chance
from draftwood.sampling.law import Law
from draftwood.verify.laws import Probabilities, normalized, target_law
from draftwood.verify.multiround import accept_several


@dataclass(frozen=True, slots=True, eq=False)
class DrawnLayer:
    """A layer of the draft: draws from q, the small model's law over the extensions of a pool."""

    pool: BeamPool
    q: Probabilities
    size: int
    draws: list[int]

    def offers(self, pool: BeamPool, size: int) -> list[tuple[int, Probabilities]]:
        """The draws that extend a prefix of `pool`, as its own law numbers them, each with its law.

        Which draws these are depends on their prefixes only, so that given their number they are
        independent draws from the part of q that belongs to `pool`.
        """
        if size != self.size:
            raise InvalidDraft(
                f"the small model has {self.size - 1} tokens and the target {size - 1}; "
                "pair two models of one vocabulary"
            )
        place = {prefix: at for at, prefix in enumerate(self.pool.prefixes)}
        q = np.zeros(size * len(pool.prefixes), dtype=self.q.dtype)
        number: dict[int, int] = {}
        for at, prefix in enumerate(pool.prefixes):
            if prefix in place:
                number[place[prefix]] = at
                start = place[prefix] * size
                q[at * size : (at + 1) * size] = self.q[start : start + size]
        q = normalized(q)
        split = (divmod(draw, size) for draw in self.draws)
        return [(number[at] * size + token, q) for at, token in split if at in number]


@dataclass(frozen=True, slots=True, eq=False)
class BeamForest:
    """What one pass of the target looks at: the beams, and below them the layers of the draft.

    nodes: the node of each prefix. own: how many nodes are the beams' own.
    """

    draft: Draft
    nodes: dict[Prefix, int]
    own: int
    layers: list[DrawnLayer]

    def verify_layer(
        self, at: int, pool: BeamPool, rows: Rows, law: Law, width: int, chance: Chance
    ) -> tuple[BeamPool, int, int]:
        """Layer number `at` of the pass: the next pool, how many draws it was offered and took."""

        def row(prefix: Prefix) -> Probabilities:
            return target_law(law, rows, self.nodes[prefix] + 1, list(prefix))

        p, size = pool.law(row)
        offers = self.layers[at].offers(pool, size) if at < len(self.layers) else []
        outputs = accept_several(chance, p, offers, width)
        offered = {token for token, _ in offers}
        taken = min(len(offers), sum(output in offered for output in outputs))
        return pool.extended(outputs, p, size), len(offers), taken
