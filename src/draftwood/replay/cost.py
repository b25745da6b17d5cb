"""Simulated time: what the passes of a replay would take on a target of a given cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from draftwood.budget.cost import VerifyCost
from draftwood.budget.spender import PassReport, Spender, spender_of
from draftwood.budget.spending import Spending
from draftwood.draft import Budget, Draft
from draftwood.drafters.catalog import PricedDrafter
from draftwood.errors import InvalidOption


class Clock:
    """A spender that leaves all decisions to another one, and adds up the time of the passes.

    seconds: simulated time of all passes so far, in the unit of `cost`. plain_token: the time of
    one token without drafts at the batch size of the last pass, t(0) / batch. share: of the last
    pass, its time / batch. The other spender is
    told simulated times, too: 0 for drafting, and for a pass what it costs.
    """

    def __init__(self, cost: VerifyCost, spender: Spender | None = None) -> None:
        self.seconds = 0.0
        self.plain_token = 0.0
        self.share = 0.0
        self._cost = cost
        self._spender = spender_of(spender)

    def plan(self, batch: int, context: int = 0, *, padded: bool = False) -> Budget:
        """The budget that the other spender plans."""
        return self._spender.plan(batch, context, padded=padded)

    def spend(
        self, drafts: Sequence[Draft], context: int = 0, *, padded: bool = False
    ) -> list[Draft]:
        """The drafts as the other spender cuts them."""
        return self._spender.spend(drafts, context, padded=padded)

    def observe(self, spent: PassReport) -> None:
        """Add the time of a pass."""
        batch, drafted = len(spent.drafts), sum(map(len, spent.drafts))
        taken = self._cost.seconds(drafted, batch=batch, context=spent.context)
        self.seconds += taken
        self.share = taken / batch
        self.plain_token = self._cost.seconds(0, batch=batch, context=spent.context) / batch
        self._spender.observe(replace(spent, draft_seconds=0.0, pass_seconds=taken))


def spender_for(
    priced: PricedDrafter, cost: VerifyCost | None, *, spec: str = ""
) -> Spender | None:
    """The spender that cuts a drafter's drafts in a replay; None: they are not cut.

    cost: used where the drafter's spec says cost=auto, since a replay has no target whose passes
    could be measured. spec: the spec, for the error message.

    Raises:
        InvalidOption: cost=auto, and no cost is given.
    """
    if priced.cost is None:
        return None
    if priced.cost == "auto" and cost is None:
        raise InvalidOption(
            f"{spec or 'a drafter'} asks for cost=auto, and a replay has no target to measure; "
            "give --cost with a part of a step, such as 0.01, or --cost-curve with a file"
        )
    return Spending.of(priced.cost, auto=cost)
