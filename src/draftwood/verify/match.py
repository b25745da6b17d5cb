"""Sample and match (prefix match): sample from the target, and accept while the draft agrees."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from draftwood.draft import ROOT, Draft, TokenIds
from draftwood.protocols import Rows, Verdict
from draftwood.sampling.chance import Chance
from draftwood.sampling.law import Law


class SampleAndMatch:
    """Lossless for drafts that the drafter *chose*, at any temperature.

    At each node the next token is drawn from the target's law; if it is a child in the draft, that
    child is accepted and the next token is drawn after it, else it is the step's last token. Every
    emitted token is drawn from the target, so the text has the target's law whatever the draft
    holds. For a tree that is fixed before the target's random numbers are drawn, no lossless rule
    accepts more. (SpecInfer calls its chain form naive sampling: Miao et al. 2024, section 4.3.)

    chance: where draws come from. law: from logits and the tokens before them to weights, such as
    `Sampling(temperature=0.7, top_p=0.9)`.
    """

    lossless = True

    def __init__(self, chance: Chance, law: Law) -> None:
        self._chance = chance
        self._law = law

    def __repr__(self) -> str:
        return f"SampleAndMatch({self._chance!r}, {self._law!r})"

    def verify(self, draft: Draft, rows: Rows) -> Verdict:
        """The accepted path and the token after it."""

        def draw(row: int, accepted: list[int]) -> int:
            return self._chance.pick(self._law(rows.logits(row), seen(rows, accepted)))

        return follow(draft, draw)


def follow(draft: Draft, draw: Callable[[int, list[int]], int]) -> Verdict:
    """Follow the draft from the root as long as the drawn token is a child.

    draw: a function from a row and the tokens accepted before it to the token after it.
    """
    children: dict[tuple[int, int], int] = {}
    for node, step in enumerate(zip(draft.parents.tolist(), draft.tokens.tolist(), strict=True)):
        children.setdefault(step, node)
    path: list[int] = []
    accepted: list[int] = []
    at = ROOT
    while True:
        token = draw(at + 1, accepted)
        child = children.get((at, token))
        if child is None:
            return Verdict(np.array(path, dtype=np.int32), token)
        path.append(child)
        accepted.append(token)
        at = child


def seen(rows: Rows, accepted: list[int]) -> TokenIds:
    """The tokens before a row: the context, then the accepted path."""
    if not accepted:
        return rows.context
    return np.concatenate((rows.context, np.array(accepted, dtype=np.int32)))
