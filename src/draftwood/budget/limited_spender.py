"""A spender under the node limit of one call (option `nodes`)."""

from __future__ import annotations

from collections.abc import Sequence

from draftwood.budget.spender import PassReport, Spender
from draftwood.draft import Budget, Draft


class LimitedSpender:
    """Wraps a spender and limits the nodes of one draft. Thread-safe where the wrapped one is."""

    def __init__(self, spender: Spender, nodes: int) -> None:
        self._spender = spender
        self._nodes = nodes

    def plan(self, batch: int, context: int = 0, *, padded: bool = False) -> Budget:
        """The wrapped spender's budget, with at most `nodes` nodes."""
        budget = self._spender.plan(batch, context, padded=padded)
        return Budget(min(budget.nodes, self._nodes), budget.depth, budget.floor)

    def spend(
        self, drafts: Sequence[Draft], context: int = 0, *, padded: bool = False
    ) -> list[Draft]:
        """What the wrapped spender keeps."""
        return self._spender.spend(drafts, context, padded=padded)

    def observe(self, spent: PassReport) -> None:
        """Passed on to the wrapped spender."""
        self._spender.observe(spent)
