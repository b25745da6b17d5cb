"""How one call drafts: its drafter, the largest draft, and what a drafted token costs."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final, Literal

from draftwood.budget.limited_spender import LimitedSpender
from draftwood.budget.measured import MeasuredCost
from draftwood.budget.spender import Spender
from draftwood.budget.spending import Spending
from draftwood.draft import Budget
from draftwood.drafters.catalog import PricedDrafter, make_priced_drafter, spendable
from draftwood.drafters.seeded import NoiseLookahead
from draftwood.fork import fork_lock
from draftwood.language_model.option_checks import Cost
from draftwood.protocols import Drafter, PairsWithTarget, TargetInfo

_UNPRICED: Final = Budget(32, floor=0.005)
"""The largest draft without a cost, of a drafter that was made to be cut to what pays."""

_KEPT: Final = 16
"""Drafters given to single calls whose budgets are remembered."""


@dataclass(frozen=True, slots=True, eq=False)
class Drafting:
    """What one call drafts with.

    budget: the largest draft, or the spender that cuts drafts to what pays. lookahead: for text at
    temperature > 0, drafts that look up the noise of the seed; None: off.
    """

    drafter: Drafter
    budget: Budget | Spender | None
    lookahead: NoiseLookahead | None

    def plain_seconds(self, batch: int = 1) -> float | None:
        """Seconds of a plain step, divided by its number of sequences; None: never measured."""
        if not isinstance(self.budget, Spending):
            return None
        seconds = self.budget.plain_seconds(batch)
        return None if seconds is None else seconds / batch


class Drafters:
    """The drafters that calls of one model name, kept with what they learned between calls.

    default: a spec or a drafter, for calls that name none. cost: see `make_priced_drafter`, for
    drafters whose spec says nothing about it. budget: the largest draft, or a spender of your own,
    which then holds for all drafters. noise_lookahead: whether drafts look up the noise of a seed.
    measured: the cost of the target's passes where it is "auto", shared by all drafters.
    Thread-safe.

    Raises:
        InvalidSpec: for a spec that names no drafter, or options that it does not have.
        InvalidOption: for a value out of range.
        HistoryError: for a file of a drafter's that cannot be used.
    """

    def __init__(
        self,
        default: str | Drafter,
        *,
        cost: Cost = None,
        budget: Budget | Spender | None = None,
        noise_lookahead: bool = True,
    ) -> None:
        self.measured = MeasuredCost()
        self._target_info: TargetInfo | None = None
        self._default = default
        self._cost = cost
        self._budget = budget
        self._lookahead = noise_lookahead
        self._lock = fork_lock()
        self._named: dict[str, _Kept] = {}
        self._given: dict[int, _Kept] = {}
        self._own = self._kept(default)

    @property
    def default(self) -> Drafter:
        """The default drafter: the one given, or the one that its spec names."""
        return self._own.priced.drafter if isinstance(self._default, str) else self._default

    @property
    def name(self) -> str:
        """The default drafter's name: its spec, or the repr of a drafter object."""
        return repr(self._default)

    @property
    def default_cost(self) -> Cost:
        """What a drafted token of the default drafter costs."""
        return self._own.priced.cost

    def pair(self, target_info: TargetInfo) -> None:
        """Check that the drafters, those made later as well, suit a target.

        Raises:
            PairMismatch: for a small model of another tokenizer.
            TokenizerMismatch: for a history of another tokenizer.
        """
        self._target_info = target_info
        for kept in (self._own, *self._named.values()):
            _pair(kept.priced.drafter, target_info)

    def choose(
        self,
        drafter: str | Drafter | None = None,
        *,
        cost: Cost | Literal["loaded"] = "loaded",
        nodes: int | None = None,
    ) -> Drafting:
        """What a call drafts with.

        drafter: None: the default one. A spec that was named before means the same drafter again.
        cost: "loaded": as the spec says, or else as for the default drafter. nodes: drafted tokens
        a step at most; None: as for the default drafter.
        """
        with self._lock:
            kept = self._own if drafter is None else self._kept(drafter)
            wanted = kept.priced.cost if cost == "loaded" else cost
            if kept.lookahead is None and self._lookahead:
                kept.lookahead = NoiseLookahead(kept.priced.drafter)
            return Drafting(
                kept.priced.drafter, self._budget_of(kept, wanted, nodes), kept.lookahead
            )

    def close(self) -> None:
        """Close the default drafter and those made from specs; other drafters stay open."""
        kept = [*self._named.values()]
        if not isinstance(self._default, str):
            kept.append(self._own)
        with ExitStack() as stack:  # all are closed, whatever one of them raises
            for each in kept:
                stack.callback(each.priced.drafter.close)

    def _kept(self, drafter: str | Drafter) -> _Kept:
        if isinstance(drafter, str):
            kept = self._named.get(drafter)
            if kept is None:
                priced = make_priced_drafter(drafter, cost=self._cost)
                kept = self._named[drafter] = self._new(priced)
            return kept
        kept = self._given.pop(id(drafter), None)
        if kept is None:
            priced = PricedDrafter(drafter)
            if self._cost is not None:
                priced = PricedDrafter(spendable(drafter), self._cost)
            kept = self._new(priced)
            if len(self._given) >= _KEPT:
                del self._given[next(iter(self._given))]
        self._given[id(drafter)] = kept  # the drafter lives as long, so its id is no other's
        return kept

    def _new(self, priced: PricedDrafter) -> _Kept:
        if self._target_info is not None:
            _pair(priced.drafter, self._target_info)
        return _Kept(priced)

    def _budget_of(self, kept: _Kept, cost: Cost, nodes: int | None) -> Budget | Spender | None:
        given = self._budget
        if given is not None and not isinstance(given, Budget):
            return given if nodes is None else LimitedSpender(given, nodes)
        if cost is None:
            limit = given if kept.priced.cost is None else _within(_UNPRICED, given)
            return limit if nodes is None else Budget(nodes)
        limit = given if nodes is None else Budget(nodes)
        spender = kept.spenders.get((cost, limit))
        if spender is None:
            spender = Spending.of(cost, auto=self.measured, limit=limit)
            kept.spenders[cost, limit] = spender
        return spender


@dataclass(slots=True, eq=False)
class _Kept:
    """A drafter and what was made for it so far."""

    priced: PricedDrafter
    lookahead: NoiseLookahead | None = None
    spenders: dict[tuple[Cost, Budget | None], Spending] = field(default_factory=dict)


def _pair(drafter: Drafter, target_info: TargetInfo) -> None:
    if isinstance(drafter, PairsWithTarget):
        drafter.pair(target_info)


def _within(budget: Budget, limit: Budget | None) -> Budget:
    if limit is None:
        return budget
    return Budget(min(budget.nodes, limit.nodes), limit.depth, max(budget.floor, limit.floor))
