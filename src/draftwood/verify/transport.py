"""Rules that look at all siblings of a level at once: approximations of optimal transport."""

from __future__ import annotations

from typing import Any

import numpy as np

from draftwood.draft import Draft
from draftwood.errors import InvalidDraft, InvalidOption
from draftwood.sampling.chance import Chance
from draftwood.sampling.law import Law
from draftwood.verify.laws import Probabilities, proposal_law, proposal_row, residual
from draftwood.verify.levels import LevelByLevel
from draftwood.verify.rejection import try_in_turn


class KSeq(LevelByLevel):
    """K-SEQ of SpecTr: k independent draws from one q, equal tokens allowed. Lossless.

    A sibling x is accepted with min(1, p(x) / (rho q(x))). With beta(rho) = sum of min(q, p/rho),
    one of k is accepted with 1 - (1 - beta)^k, and the rule is exact for every rho in [1, k] with
    1 - (1 - beta)^k <= rho beta; the smallest such rho accepts most. Bisection keeps its upper end
    valid, so that its precision costs acceptance (at most (k - 1) / 2^halvings of rho), never
    exactness. How many siblings there are must not depend on their tokens.

    Sun et al. 2023, *SpecTr* (arXiv 2310.15141), the k-sequential selection algorithm.
    """

    def __init__(self, chance: Chance, law: Law, *, halvings: int = 20) -> None:
        if halvings < 0:
            raise InvalidOption(f"halvings is {halvings}; use 0 for rho = k, or more")
        super().__init__(chance, law)
        self._halvings = halvings

    def choose(self, draft: Draft, p: Probabilities, children: list[int]) -> int:
        """Try each sibling against p / rho, then draw from the residual."""
        q = shared_proposal(draft, p, children)
        count = len(children)
        once = np.minimum(q, p / self.division(p, q, count))  # what one sibling takes
        for token in draft.tokens[children].tolist():
            if self._chance.accept(once[token] / q[token]):
                return int(token)
        missed = 1 - once.sum()
        tries = sum(missed**k for k in range(count))  # (1 - (1 - beta)^k) / beta, beta = 0 included
        return self._chance.pick(residual(p, tries * once))

    def division(self, p: Probabilities, q: Probabilities, count: int) -> Any:
        """rho: always valid, and the smallest valid one within the precision of the bisection."""

        def valid(rho: Any) -> bool:
            beta = np.minimum(q, p / rho).sum()
            return bool(1 - (1 - beta) ** count <= rho * beta)

        one = p.sum() ** 0  # of the number type of p
        low, high = one, count * one
        if valid(low):
            return low
        for _ in range(self._halvings):
            middle = (low + high) / 2
            if valid(middle):
                high = middle
            else:
                low = middle
        return high


class SpecHub(LevelByLevel):
    """SpecHub: two siblings, of which one is the drafter's likeliest token, the hub. Lossless.

    With a = argmax q, the pair (i, a) is drafted with q(i) and the pair (a, i) with
    q(a) q(i) / (1 - q(a)), for every i other than a: draw from q, then take a, or, where a was
    drawn, draw again from the rest of q. The hub takes what p(a) the others leave to it. Where q
    holds nothing but a, it stands alone.

    Sun et al. 2024, *SpecHub* (arXiv 2411.05289).
    """

    def choose(self, draft: Draft, p: Probabilities, children: list[int]) -> int:
        """Accept the token beside the hub, else the hub, else draw from what is left."""
        q = shared_proposal(draft, p, children)
        hub = int(np.argmax(proposal_row(draft, children[0])))
        tokens: list[int] = draft.tokens[children].tolist()
        rest = q.copy()
        rest[hub] = 0
        if tokens == [hub] and not rest.any():
            return try_in_turn(self._chance, p, [(hub, q)])
        if len(tokens) != 2 or tokens.count(hub) != 1:
            raise InvalidDraft(
                f"siblings {children} hold tokens {tokens}; SpecHub needs two, exactly one of them "
                f"the drafter's likeliest, {hub}: draw them by hub_pair"
            )
        after = q[hub] * rest / rest.sum()  # law of the pairs (a, i)
        first_takes = np.minimum(rest, p)
        first_takes[hub] = 0
        after_takes = np.minimum(after, p - first_takes)
        after_takes[hub] = 0
        hub_after = min(p[hub], (after - after_takes).sum())
        hub_first = min(p[hub] - hub_after, (rest - first_takes).sum())

        if tokens[1] == hub:
            other, drawn, takes, takes_hub = tokens[0], rest, first_takes, hub_first
        else:
            other, drawn, takes, takes_hub = tokens[1], after, after_takes, hub_after
        left = (drawn - takes).sum()
        if self._chance.accept(takes[other] / drawn[other]):
            return other
        if left > 0 and self._chance.accept(takes_hub / left):
            return hub
        taken = first_takes + after_takes
        taken[hub] = hub_after + hub_first
        return self._chance.pick(residual(p, taken))


def shared_proposal(draft: Draft, p: Probabilities, children: list[int]) -> Probabilities:
    """The one law that all siblings were drawn from.

    Raises:
        InvalidDraft: where their proposal rows differ.
    """
    first = proposal_row(draft, children[0])
    for node in children[1:]:
        if not np.array_equal(proposal_row(draft, node), first):
            raise InvalidDraft(
                f"siblings {children[0]} and {node} have different proposal rows, and the rule "
                "needs one law for all; use MultiRound"
            )
    return proposal_law(draft, children[0], p)
