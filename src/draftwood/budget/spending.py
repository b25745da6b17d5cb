"""Spending: cuts all drafts of a pass to what pays, or switches drafting off where none does."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from draftwood.budget.account import Account
from draftwood.budget.cost import LearnedCost, LinearCost, VerifyCost
from draftwood.budget.cut import best_length, best_prefix, keep, rank
from draftwood.budget.measured import MeasuredCost
from draftwood.budget.price import Price
from draftwood.budget.spender import PassReport
from draftwood.draft import Budget, Draft
from draftwood.fork import fork_lock

_PACE_STEPS = 2048
"""Steps over which the pace is averaged."""
_PRIOR_STEPS = 8.0
"""How many plain steps the pace begins with."""
_PLAIN_EVERY = 128
"""Steps after which a plain one is made for its time, once it is well known."""
_PRICE_STEPS = 32
"""Steps for which a price holds, at most; an eighth of the steps so far."""
_SURE, _TIMED = 128, 4
"""Steps after which only one of so many is timed."""
_SURE_PLAIN, _TIMED_PLAIN = 32, 16
"""The same of plain steps in a row."""
_NONE = Budget(0)
_DEPTHS = 64
"""Levels of sampled drafts whose acceptance is learned."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What a `Spending` needs to know of one pass over a batch of sequences.

    batch: sequences. drafted: tokens verified in all. tokens: generated tokens a sequence. context:
    tokens of the longest sequence. asked: whether drafters were asked for drafts. draft_seconds:
    wall clock of drafting. seconds: wall clock of everything else; None where it is not known, or a
    prompt was computed in it, too.
    """

    batch: int
    drafted: int
    tokens: float
    context: int
    asked: bool
    draft_seconds: float
    seconds: float | None


class Spending:
    """The spender that maximizes tokens a second; one for all sequences and threads of a service.

    cost: the time of a pass. One that learns (`MeasuredCost`) is told every timed pass, and
    drafting time is counted; with any other, whose unit is unknown, drafting is taken to be free.
    limit: the largest draft of one sequence. share: the part of all time that may be lost against
    plain decoding while drafting is tried (`Account` has the bound; it holds for each class of
    batch sizes).

    Time is valued at the pace, the tokens a second reached over the long run, which leads to the
    drafts of the highest pace (Dinkelbach's iteration, made online): the pace begins at that of
    plain decoding and rises with what drafting gains.
    """

    def __init__(
        self, cost: VerifyCost, *, limit: Budget | None = None, share: float = 0.005
    ) -> None:
        self.cost = cost
        self.limit = limit or Budget(64)
        self._share = share
        self._learned = cost if isinstance(cost, LearnedCost) else None
        self._timed = False
        self._lock = fork_lock()
        self._regimes: dict[int, _Regime] = {}
        self._levels = _Levels()

    def __repr__(self) -> str:
        return f"Spending({self.cost!r}, limit={self.limit!r}, share={self._share})"

    @classmethod
    def of(
        cls,
        setting: float | Literal["auto"],
        *,
        auto: VerifyCost | None = None,
        limit: Budget | None = None,
    ) -> Spending:
        """A `Spending` from the value of `cost=` in a spec.

        setting: the part of a plain step that each drafted token adds, or "auto": `auto`, which
        is a new `MeasuredCost` where it is None.
        """
        if setting == "auto":
            return cls(auto or MeasuredCost(), limit=limit)
        return cls(LinearCost(float(setting)), limit=limit)

    def plan(self, batch: int, context: int = 0, *, padded: bool = False) -> Budget:
        """The budget of each of `batch` drafts; 0 nodes: drafting is off for this step.

        Its floor is what a drafted token costs at the current pace (`Price`); half of it in a
        padded pass, where a node may cost nothing.
        """
        regime = self._regime(batch)
        if not regime.account.open or (self._learned is not None and regime.wants_plain):
            return _NONE
        price = self._drawn(regime, batch, context)
        return price.padded if padded and batch > 1 else price.budget

    def spend(
        self, drafts: Sequence[Draft], context: int = 0, *, padded: bool = False
    ) -> list[Draft]:
        """The drafts, cut to what is worth verifying; in a padded pass, all to one length."""
        longest = max(map(len, drafts))
        if not longest:
            return list(drafts)
        batch = len(drafts)
        price = self.price(batch, context, longest)
        ranked = [rank(draft, self._levels.reach, price.discounts) for draft in drafts]
        if padded:
            counts = best_length(ranked, 1.0, price.pass_costs[: longest * batch + 1 : batch])
        else:
            counts = best_prefix(ranked, 1.0, price.pass_costs)
        return [keep(*each) for each in zip(drafts, ranked, counts, strict=True)]

    def observe(self, spent: PassReport) -> None:
        """Learn from a pass: its time and its tokens."""
        sizes = list(map(len, spent.drafts))
        batch = len(sizes)
        drafted = batch * max(sizes) if spent.padded else sum(sizes)
        self.record(
            Pass(
                batch=batch,
                drafted=drafted,
                tokens=1.0 + sum(spent.accepted) / batch,
                context=spent.context,
                asked=spent.asked,
                draft_seconds=spent.draft_seconds,
                seconds=spent.pass_seconds,
            )
        )
        with self._lock:
            for draft, accepted in zip(spent.drafts, spent.accepted, strict=True):
                if draft.proposal is not None and len(draft):
                    self._levels.learn(draft.height, accepted)

    def record(self, done: Pass) -> None:
        """Like `observe`, for callers that have only counts; drafts must be of chosen tokens."""
        batch, drafted, context = done.batch, done.drafted, done.context
        with self._lock:
            regime = self._regime(batch)
            if self._learned is None:
                plain = self.cost.seconds(0, batch=batch, context=context)
                expected = self.cost.seconds(drafted, batch=batch, context=context)
                regime.enter(expected / plain, done.tokens, plain=not drafted)
            elif regime.wants_time(plain=not drafted):
                self._record_timed(self._learned, regime, done)
            else:
                time = 1.0
                if drafted:
                    pass_costs = self._drawn(
                        regime, batch, context, -(-drafted // batch)
                    ).pass_costs
                    time = float(pass_costs[drafted] / pass_costs[0])
                if done.asked:
                    time += regime.drafted(
                        done.draft_seconds / regime.plain_seconds, drafted / batch
                    )
                regime.enter(time, done.tokens, plain=not drafted)

    def _record_timed(self, cost: LearnedCost, regime: _Regime, done: Pass) -> None:
        """Learn from the time of a pass, and enter it."""
        batch, drafted, context, taken = done.batch, done.drafted, done.context, done.seconds
        plain = expected = cost.seconds(0, batch=batch, context=context)
        if drafted:
            expected = cost.seconds(drafted, batch=batch, context=context)
        time = expected / plain
        if taken is not None:
            cost.observe(drafted, taken, batch=batch, context=context)
            time *= regime.excess(taken / expected, plain=not drafted)
            self._timed = True
        if not self._timed:
            return
        regime.plain_seconds = plain
        if done.asked:
            time += regime.drafted(done.draft_seconds / plain, drafted / batch)
        regime.enter(time, done.tokens, plain=not drafted)

    def speedup(self, batch: int = 1) -> float:
        """The estimated speed-up over plain decoding at a batch size."""
        return self._regime(batch).pace

    def plain_seconds(self, batch: int = 1) -> float | None:
        """Seconds of a plain step at a batch size; None where no pass of that size was timed."""
        seconds = self._regime(batch).plain_seconds
        return seconds if seconds < float("inf") else None

    def drafting(self, batch: int = 1) -> bool:
        """Whether drafting is on at a batch size."""
        return self._regime(batch).account.open

    def price(self, batch: int, context: int = 0, longest: int = 0) -> Price:
        """The price at a batch size and context length, for drafts of up to `longest` tokens each.

        For callers that cut drafts themselves, as the native code does.
        """
        return self._drawn(self._regime(batch), batch, context, longest)

    def _drawn(self, regime: _Regime, batch: int, context: int, longest: int = 0) -> Price:
        """The price, drawn anew every few steps."""
        key = batch, context.bit_length()
        until, price = regime.prices.get(key, (0, None))
        if price is None or regime.steps >= until or price.longest < longest:
            price = Price.of(
                self.cost,
                regime.pace,
                self.limit,
                longest=longest,
                batch=batch,
                context=context,
                drafting=regime.drafting,
            )
            until = regime.steps + 1 + min(_PRICE_STEPS - 1, regime.steps // 8)
            regime.prices[key] = until, price
        return price

    def _regime(self, batch: int) -> _Regime:
        key = batch.bit_length()
        regime = self._regimes.get(key)
        if regime is None:
            regime = self._regimes.setdefault(key, _Regime(self._share))
        return regime


class _Regime:
    """What holds at batch sizes of one power of two. Time is counted in plain steps."""

    def __init__(self, share: float) -> None:
        self.account = Account(share)
        self.pace = 1.0
        self.steps = 0
        self.plain_seconds = float("inf")
        self._plain_run = 0
        self.prices: dict[tuple[int, int], tuple[int, Price]] = {}
        self._tokens = self._time = _PRIOR_STEPS
        self._since_plain, self._every = 0, 1
        self._plain_excess = 1.0
        self._drafting: deque[float] = deque(maxlen=15)
        self._draft_time, self._draft_tokens = 0.0, 1.0

    @property
    def wants_plain(self) -> bool:
        """Whether the time of a plain step should be taken again."""
        return self._since_plain >= self._every

    def wants_time(self, *, plain: bool) -> bool:
        """Whether there is something to be learned from the time of one more pass."""
        if plain:
            return self._plain_run < _SURE_PLAIN or not self.steps % _TIMED_PLAIN
        return self.steps < _SURE or not self.steps % _TIMED

    def excess(self, ratio: float, *, plain: bool) -> float:
        """What a pass took over what was expected, but for stalls, against what plain ones do."""
        ratio = min(max(ratio, 0.5), 2.0)
        if plain:
            self._plain_excess += (ratio - self._plain_excess) / 64.0
            return 1.0
        return ratio / self._plain_excess

    @property
    def drafting(self) -> float:
        """What it takes to draft a token."""
        return self._draft_time / self._draft_tokens

    def drafted(self, time: float, tokens: float) -> float:
        """Drafting took so long and gave so many tokens a sequence; the time without a stall.

        That is at most twice the second longest of the last times, the first: 2 steps. So what a
        stall of the machine adds to one of them is not taken for the drafter's.
        """
        last = self._drafting
        last.append(time)
        time = min(time, 2.0 * (sorted(last)[-2] if len(last) > 1 else 1.0))
        fade = 1.0 - 1.0 / _PRICE_STEPS
        self._draft_time = self._draft_time * fade + time
        self._draft_tokens = self._draft_tokens * fade + tokens
        return time

    def enter(self, time: float, tokens: float, *, plain: bool) -> None:
        self.account.enter(time, tokens)
        self.steps += 1
        fade = 1.0 - 1.0 / _PACE_STEPS
        self._tokens = self._tokens * fade + tokens
        self._time = self._time * fade + time
        self.pace = max(1.0, self._tokens / self._time)
        if plain:
            self._since_plain, self._every = 0, min(2 * self._every, _PLAIN_EVERY)
            self._plain_run += 1
        else:
            self._since_plain += 1
            self._plain_run = 0


class _Levels:
    """How deep drafts of sampled tokens are accepted, over all of them, whatever the tokens."""

    def __init__(self) -> None:
        self._tried = [2.0] * _DEPTHS
        self._accepted = [1.5] * _DEPTHS
        self.reach: list[float] = []
        self._refresh()

    def learn(self, height: int, accepted: int) -> None:
        for depth in range(min(height, accepted + 1, _DEPTHS)):
            self._tried[depth] = 0.99 * self._tried[depth] + 1.0
            self._accepted[depth] = 0.99 * self._accepted[depth] + (accepted > depth)
        self._refresh()

    def _refresh(self) -> None:
        reach, value = [], 1.0
        for tried, accepted in zip(self._tried, self._accepted, strict=True):
            value *= accepted / tried
            reach.append(value)
        self.reach = reach
