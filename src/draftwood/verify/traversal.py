r"""Traversal verification: a tree verified from its leaves to its root.

     context      The path a c is judged as a whole; if it fails, a d; if that fails, a alone,
     /     \      against what p has left there; if that fails, b; and at last the context alone,
    a       b     which always stands.
   / \
  c   d
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from draftwood.draft import ROOT, Draft
from draftwood.protocols import Rows, Verdict
from draftwood.sampling.chance import Chance
from draftwood.sampling.law import Law
from draftwood.verify.laws import Probabilities, proposal_law, require_sampled, target_law
from draftwood.verify.levels import families
from draftwood.verify.rejection import require_distinct


@dataclass(slots=True)
class _Place:
    """A node on the way down.

    weight: the chance that the path to it stands. waiting: its children, not yet judged. p: what
    the target's law has left there, None until it is needed. q: the law that the node was drawn
    from. gone: tokens of judged children.
    """

    node: int
    weight: Any
    waiting: Iterator[int]
    p: Probabilities | None = None
    q: Probabilities | None = None
    gone: list[int] = field(default_factory=list)


class TraversalVerification:
    """Traversal verification of a sampled tree; on chains it is block verification. Lossless.

    The root weighs 1, a child min(1, weight(parent) p/q). A leaf is accepted with its weight; if it
    is not, its parent u loses it: with r = relu(weight(u) p - q) and s its sum, p becomes r / s and
    weight(u) becomes s / (s + 1 - weight(u)).

    replacement: whether siblings are independent draws, equal tokens allowed; else they are
    ordered draws of which none repeats, and a sibling's law is its proposal row without the tokens
    of the siblings before it. Siblings stand in the order in which they were drawn.

    Weng et al. 2025, *Traversal Verification for Speculative Tree Decoding* (arXiv 2505.12398).
    chance, law: as for `SampleAndMatch`.
    """

    lossless = True

    def __init__(self, chance: Chance, law: Law, *, replacement: bool = False) -> None:
        self._chance = chance
        self._law = law
        self._replacement = replacement

    def verify(self, draft: Draft, rows: Rows) -> Verdict:
        """The accepted path and the token after it.

        Raises:
            InvalidDraft: for tokens that were not sampled as the rule needs it.
        """
        below = families(draft)
        require_sampled(draft)
        if not self._replacement:
            for siblings in below:
                require_distinct(draft, siblings)
        tokens = draft.tokens.tolist()
        stack = [_Place(ROOT, 1, iter(below[ROOT]))]

        def p_here() -> Probabilities:
            here = stack[-1]
            if here.p is None:
                accepted = [tokens[place.node] for place in stack[1:]]
                here.p = target_law(self._law, rows, here.node + 1, accepted)
            return here.p

        while True:
            here = stack[-1]
            child = next(here.waiting, None) if here.weight > 0 else None
            if child is not None:
                p = p_here()
                q = self.proposal(draft, child, p, here.gone)
                weight = min(1, here.weight * p[tokens[child]] / q[tokens[child]])
                stack.append(_Place(child, weight, iter(below[child]), q=q))
            elif here.node == ROOT or self._chance.accept(here.weight):
                return Verdict(draft.path(here.node), self._chance.pick(p_here()))
            else:
                stack.pop()
                self.reject(stack[-1], tokens[here.node], p_here(), here.q)

    def proposal(self, draft: Draft, node: int, p: Probabilities, gone: list[int]) -> Probabilities:
        """q as it was when the node was drawn, `gone` being its earlier siblings' tokens."""
        return proposal_law(draft, node, p, without=() if self._replacement else gone)

    def reject(self, parent: _Place, token: int, p: Probabilities, q: Any) -> None:
        """Take from the parent what its child of this token, drawn from q, stood for."""
        left = np.maximum(parent.weight * p - q, 0)
        total = left.sum()
        if total > 0:
            parent.p = left / total
            parent.weight = total / (total + (1 - parent.weight))  # never 0 / 0, small as total is
        elif parent.node != ROOT:  # for the root nothing is left only by rounding: keep p there
            parent.weight = 0
        parent.gone.append(token)
