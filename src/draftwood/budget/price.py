"""The price of a drafted token: pass times converted into tokens at the current pace."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from draftwood.budget.cost import VerifyCost, times
from draftwood.budget.cut import discounts_of
from draftwood.draft import Budget


@dataclass(frozen=True, slots=True, eq=False)
class Price:
    """A cost curve in tokens, for cutting drafts; valid for a few steps.

    pass_costs: float64 [longest * batch + 1], t(n) in tokens of the whole batch at the current
    pace, so that an accepted token is worth 1. discounts: of a token accepted at depth 1, 2, ..
    (`discounts_of`). weights: the same as float64 array. budget: the limit; its floor is what a
    drafted token costs where the curve is cheapest, on the mean of all up to there. padded: the
    same of a padded pass, with half the floor: a node costs nothing there where the draft of
    another sequence is as long. longest: tokens of one draft up to which it holds.
    """

    pass_costs: NDArray[np.float64]
    discounts: list[float]
    weights: NDArray[np.float64]
    budget: Budget
    padded: Budget
    longest: int

    @classmethod
    def of(
        cls,
        cost: VerifyCost,
        pace: float,
        limit: Budget,
        *,
        longest: int,
        batch: int,
        context: int,
        drafting: float = 0.0,
    ) -> Price:
        """The current price from a cost. pace: tokens in the time of one sequence's plain step.

        drafting: what it takes to draft a token, in plain steps.
        """
        longest = max(longest, limit.nodes)
        curve = times(cost, longest * batch, batch=batch, context=context)
        pass_costs = curve * (pace * batch / float(curve[0]))
        nodes = np.arange(1.0, limit.nodes + 1.0)
        means = (pass_costs[1 : limit.nodes + 1] - pass_costs[0]) / nodes
        floor = min(1.0, float(means.min(initial=1.0)))
        discounts = discounts_of(pace, curve[::batch], drafting)
        return cls(
            pass_costs,
            discounts,
            np.array(discounts),
            Budget(limit.nodes, limit.depth, max(limit.floor, floor)),
            Budget(limit.nodes, limit.depth, max(limit.floor, floor / 2.0)),
            longest,
        )
