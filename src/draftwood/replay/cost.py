"""What a replay would have taken: simulated time, by what passes of a target cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from draftwood.budget.cost import VerifyCost
from draftwood.budget.spender import Spender, Spent, spender_of
from draftwood.budget.spending import Spending
from draftwood.draft import Budget, Draft
from draftwood.drafters.catalog import PricedDrafter
from draftwood.errors import InvalidOption


class Clock:
    """A spender that lets another decide, and adds up what the passes would take.

    seconds: simulated time of all passes so far, in the unit of `cost`. plain_token: what each
    token of the last pass would have taken without drafts, at the same batch size: t(0) / batch.
    The other spender is told simulated time, too: drafting takes none, a pass what it costs.
    """

    def __init__(self, cost: VerifyCost, spender: Spender | None = None) -> None:
        self.seconds = 0.0
        self.plain_token = 0.0
        self._cost = cost
        self._spender = spender_of(spender)

    def plan(self, batch: int, context: int = 0, *, padded: bool = False) -> Budget:
        """As the other spender plans."""
        return self._spender.plan(batch, context, padded=padded)

    def spend(
        self, drafts: Sequence[Draft], context: int = 0, *, padded: bool = False
    ) -> list[Draft]:
        """As the other spender spends."""
        return self._spender.spend(drafts, context, padded=padded)

    def observe(self, spent: Spent) -> None:
        """A pass was made: it takes its time."""
        batch, drafted = len(spent.drafts), sum(map(len, spent.drafts))
        taken = self._cost.seconds(drafted, batch=batch, context=spent.context)
        self.seconds += taken
        self.plain_token = self._cost.seconds(0, batch=batch, context=spent.context) / batch
        self._spender.observe(replace(spent, draft_seconds=0.0, pass_seconds=taken))


def spender_for(
    priced: PricedDrafter, cost: VerifyCost | None, *, spec: str = ""
) -> Spender | None:
    """What spends a drafter's drafts in a replay; None: they are verified as they are.

    cost: what stands for "auto", which has nothing to measure in a replay. spec: for the message.

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
