"""A spender whose drafts hold no more than a call allows."""

from __future__ import annotations

from collections.abc import Sequence

from draftwood.budget.spender import Spender, Spent
from draftwood.draft import Budget, Draft


class Limited:
    """Another spender, with a limit on the nodes of one draft. Thread-safe where that one is."""

    def __init__(self, spender: Spender, nodes: int) -> None:
        self._spender = spender
        self._nodes = nodes

    def plan(self, batch: int, context: int = 0, *, padded: bool = False) -> Budget:
        """The other's budget, with at most so many nodes."""
        budget = self._spender.plan(batch, context, padded=padded)
        return Budget(min(budget.nodes, self._nodes), budget.depth, budget.floor)

    def spend(
        self, drafts: Sequence[Draft], context: int = 0, *, padded: bool = False
    ) -> list[Draft]:
        """What the other keeps."""
        return self._spender.spend(drafts, context, padded=padded)

    def observe(self, spent: Spent) -> None:
        """Told to the other."""
        self._spender.observe(spent)
