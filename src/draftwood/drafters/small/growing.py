"""The loop in which a small model grows a tree of its likeliest tokens, a pass a level.

Tokens are chosen, not sampled: their drafts are for `Greedy`, `SampleAndMatch` and `SharedGumbel`.
What drafters differ in is a `Shape`.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Protocol

from draftwood.draft import ROOT, Budget, Draft, TokenIds
from draftwood.drafters.small.counts import DraftCounts
from draftwood.drafters.small.growth import Growth
from draftwood.drafters.small.seat import ends_of, pair_models, ranked_seat
from draftwood.drafters.small.worth import Gain
from draftwood.protocols import DraftModel, Feedback, Partner


class Shape(Protocol):
    """How a tree grows. Pass 0 is the one behind the context."""

    @property
    def passes(self) -> int:
        """Passes at most."""

    @property
    def nodes(self) -> int:
        """Nodes of a draft at most."""

    def branch(self, turn: int) -> int:
        """Candidates below each node of pass number `turn`."""

    def level(self, growth: Growth, added: list[int]) -> list[int]:
        """The nodes to pass next, those that the last pass added among them; none: it is done."""


class GrowingDrafter:
    """A small model that grows a tree of its likeliest tokens.

    gain: what a pass must promise to be made, see `Gain`. floor: paths less likely are neither
    drafted nor passed. ends: nothing is drafted behind these tokens, the model's `end_tokens`.
    counts: what drafting took so far. Shared by any number of streams; safe to use from several
    threads where the model is.
    """

    def __init__(
        self,
        model: DraftModel,
        shape: Shape,
        *,
        gain: float | str = "auto",
        floor: float = 0.0,
    ) -> None:
        self.model, self.shape, self.floor = model, shape, floor
        self.ends = ends_of(model)
        self.gain = Gain(gain)
        self.counts = DraftCounts()

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> GrowingStream:
        """A stream with a seat of its own; nothing is shared, so `namespace` is moot."""
        return GrowingStream(self, prompt)

    def close(self) -> None:
        """Nothing to give back: the model is its maker's."""

    def pair(self, partner: Partner) -> None:
        """Raise PairMismatch where the model does not suit the target."""
        pair_models([self.model], partner)


class GrowingStream:
    """One sequence of a `GrowingDrafter`. Used by one thread at a time."""

    def __init__(self, drafter: GrowingDrafter, prompt: TokenIds) -> None:
        self._drafter = drafter
        self._seat = ranked_seat(drafter.model, prompt)
        self._growth = Growth()
        self._steps = 0
        self._promised = self._seconds = 0.0
        self.passes = 0
        """Passes of the model for the last draft."""

    def propose(self, budget: Budget) -> Draft:
        """The likeliest paths of what grows; the stream itself does not move."""
        start = perf_counter()
        growth = self.grow(budget)
        nodes = min(budget.nodes, self._drafter.shape.nodes)
        draft = growth.draft(nodes, max(budget.floor, self._drafter.floor))
        self._drafter.counts.add(len(draft), self.passes, perf_counter() - start)
        return draft

    def grow(self, budget: Budget) -> Growth:
        """All nodes that the passes of one draft find."""
        start, before = perf_counter(), self._seat.passes
        growth = self._growth = Growth()
        self._promised = 0.0
        room = self._seat.room
        if budget.reach and room != 0:
            self._grow(
                growth, budget, budget.reach if room is None else min(budget.reach, room + 1)
            )
        self.passes = self._seat.passes - before
        self._seconds = perf_counter() - start
        return growth

    def observe(self, feedback: Feedback) -> None:
        """Move the seat along what was committed, as far as it was computed for that."""
        gain, tokens = self._drafter.gain, feedback.tokens
        accepted = len(self._growth.follow(tokens[: len(feedback.verdict.path)].tolist()))
        gain.settle(self._promised, max(0, accepted - 1) if self._promised else 0)
        if self._steps:
            gain.time(self.passes, self._seconds, len(tokens))
        else:
            gain.begin()  # the prompt's passes say nothing about those to come
        self._growth.keep(self._seat, tokens)
        self._growth = Growth()
        self._steps += 1
        self.passes, self._promised, self._seconds = 0, 0.0, 0.0

    def close(self) -> None:
        """Give the seat back."""
        self._seat.close()

    def _grow(self, growth: Growth, budget: Budget, reach: int) -> None:
        shape, gain, seat = self._drafter.shape, self._drafter.gain, self._seat
        most, floor = min(budget.nodes, shape.nodes), max(budget.floor, self._drafter.floor)
        values, depths, tokens = growth.values, growth.depths, growth.tokens
        ends = self._drafter.ends
        added = growth.add([ROOT], seat.root_top(shape.branch(0)))
        for turn in range(1, shape.passes):
            # a child is no likelier than its parent: what could not join the draft is not passed
            bar = sorted(values, reverse=True)[most - 1] if len(growth) >= most else -1.0
            level = [
                node
                for node in shape.level(growth, added)
                if values[node] > bar
                and values[node] >= floor
                and depths[node] < reach
                and tokens[node] not in ends
            ]
            promised = sum(values[node] for node in level)
            if not gain.worth(promised):
                break
            added = growth.expand(seat, level, shape.branch(turn))
            self._promised += promised
