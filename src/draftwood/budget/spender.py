"""The door of this room: who decides what drafts may cost, and what it is told of every pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from draftwood.draft import Budget, Draft


@dataclass(frozen=True, slots=True, eq=False)
class Spent:
    """What one pass over a batch of sequences took and brought, told to a `Spender`.

    asked: whether drafters were asked for drafts. drafts: as they were verified, one for each
    sequence. accepted: tokens of each that were accepted. context: tokens of the longest sequence
    before the pass. padded: as `Spender.spend` was told. draft_seconds: wall clock of drafting.
    pass_seconds: of everything else in the step; None where a prompt was computed in it, too.
    """

    asked: bool
    drafts: Sequence[Draft]
    accepted: Sequence[int]
    context: int
    padded: bool
    draft_seconds: float
    pass_seconds: float | None


class Spender(Protocol):
    """Decides what the drafts of a pass may cost; shared by all sequences of a service.

    Safe to use from several threads, each with passes of its own.
    """

    def plan(self, batch: int, context: int = 0, *, padded: bool = False) -> Budget:
        """Before drafting: the most that each of `batch` drafts may hold; 0 nodes: do not ask.

        context: tokens of the longest sequence. padded: whether the pass has as many rows for
        every sequence as for the one with the longest draft.
        """

    def spend(
        self, drafts: Sequence[Draft], context: int = 0, *, padded: bool = False
    ) -> list[Draft]:
        """What of the drafts, one for each sequence, is worth verifying, in the same order."""

    def observe(self, spent: Spent) -> None:
        """After the pass."""


class FixedBudget:
    """The spender that lets every draft hold the same, whatever it costs."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def plan(self, batch: int, context: int = 0, *, padded: bool = False) -> Budget:
        """The budget."""
        return self._budget

    def spend(
        self, drafts: Sequence[Draft], context: int = 0, *, padded: bool = False
    ) -> list[Draft]:
        """The drafts as they are."""
        return list(drafts)

    def observe(self, spent: Spent) -> None:
        """Nothing is learned."""


def spender_of(budget: Budget | Spender | None) -> Spender:
    """A spender: the one given, or one that lets every draft hold so much (None: 64 nodes)."""
    if budget is None or isinstance(budget, Budget):
        return FixedBudget(Budget(64) if budget is None else budget)
    return budget
