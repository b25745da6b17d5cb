"""The `Spender` protocol: decides how large drafts may be, and learns from every pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from draftwood.draft import Budget, Draft


@dataclass(frozen=True, slots=True, eq=False)
class PassReport:
    """One pass over a batch of sequences: its time, drafts and acceptance, as a `Spender` is told.

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
    """Decides how large the drafts of a pass may be; shared by all sequences of a service.

    Safe to use from several threads, each with passes of its own.
    """

    def plan(self, batch: int, context: int = 0, *, padded: bool = False) -> Budget:
        """Called before drafting: the budget of each of `batch` drafts; 0 nodes: do not draft.

        context: tokens of the longest sequence. padded: whether the pass has as many rows for
        every sequence as for the one with the longest draft.
        """

    def spend(
        self, drafts: Sequence[Draft], context: int = 0, *, padded: bool = False
    ) -> list[Draft]:
        """Called after drafting: the drafts, one a sequence, cut to what is worth verifying."""

    def observe(self, spent: PassReport) -> None:
        """Called after the pass."""


class FixedBudget:
    """The spender that gives every draft the same budget, whatever it costs."""

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

    def observe(self, spent: PassReport) -> None:
        """Nothing is learned."""


def spender_of(budget: Budget | Spender | None) -> Spender:
    """The given spender, or a `FixedBudget` of the given budget (None: 64 nodes)."""
    if budget is None or isinstance(budget, Budget):
        return FixedBudget(Budget(64) if budget is None else budget)
    return budget
