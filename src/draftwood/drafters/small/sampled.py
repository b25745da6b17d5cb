r"""Trees sampled from a small model, with the rows that they were sampled from.

   <2,1>      context        siblings are drawn from q of their parent, in this order; nothing that
             /       \       was drawn is sorted, merged or taken away, since that would change the
            a         b      law that the verifier is told (docs/verification.md)
            |         |
            c         d

Multi-candidate speculative decoding (MCSD, arXiv 2401.06706), recursive speculative decoding
(arXiv 2402.14160), SpecTr's k independent drafts (arXiv 2310.15141: widths k, 1, 1, ...), SpecHub's
pairs (arXiv 2411.05289) and plain speculative sampling (widths 1, 1, 1, ...).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from time import perf_counter
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import ROOT, Budget, Draft, TokenIds
from draftwood.drafters.small.gain import Gain, Promises
from draftwood.drafters.small.grow import DraftCounts
from draftwood.drafters.small.seat import DraftModel, pair_models
from draftwood.drafters.small.shapes import Shape
from draftwood.errors import InvalidOption
from draftwood.fork import fork_lock
from draftwood.protocols import Feedback, TargetInfo
from draftwood.sampling.chance import Chance, SeededChance, Weights
from draftwood.sampling.law import Law, Sampling
from draftwood.sources import SMALL_MODEL
from draftwood.verify.drawing import Draw, distinct, hub_pair, independent

Drawing: TypeAlias = Literal["distinct", "independent", "hub"]

DRAWS: Final[dict[str, Draw]] = {
    "distinct": distinct,
    "independent": independent,
    "hub": hub_pair,
}
"""How siblings are drawn, by name. Verify distinct ones with `TraversalVerification` or
`RecursiveRejection`; independent ones with `MultiRound`, `KSeq` or
`TraversalVerification(replacement=True)`; hub pairs with `SpecHub`; chains also with
`BlockVerification`."""


class MultiCandidate:
    """k_i tokens below each node of level i - 1, sampled from a small model.

    widths: <k_1 ... k_m>; a draft that would exceed its budget has fewer groups of siblings, those
    of the first parents, and no part of one. draw: a name of `DRAWS`. law: what q is: from the
    model's log-probabilities, and the tokens before, to weights; give the target's, such as
    `Sampling(temperature=0.7, top_p=0.9)`, so that q is near p. chance: a seed, of which every
    stream makes a chance of its own, in the order in which streams are opened; or a chance for all.

    gain: what a level's pass must promise, see `Gain`, by the share of siblings of each rank that
    were accepted so far; 0 makes all levels, so that text depends on seeds and history alone.
    counts: what drafting took so far. Safe to use from several threads where the model and a given
    chance are.

    Raises:
        InvalidOption: widths that are none, or not all 2 for hub pairs; an unknown draw or gain; a
            negative seed.
    """

    def __init__(
        self,
        model: DraftModel,
        *,
        widths: Sequence[int] = (3, 1, 1),
        draw: Drawing = "distinct",
        law: Law | None = None,
        chance: Chance | int = 0,
        gain: float | str = 0.0,
    ) -> None:
        if draw not in DRAWS:
            raise InvalidOption(f"draw is {draw!r}; choose from {', '.join(DRAWS)}")
        self.widths = Shape.expansion(widths).widths
        if draw == "hub" and set(self.widths) != {2}:
            raise InvalidOption(f"widths are {self.widths}; hub pairs need 2 on every level")
        self.model = model
        self.law = Sampling() if law is None else law
        self.draw = DRAWS[draw]
        self.gain = Gain(gain)
        self.counts = DraftCounts()
        self._lock = fork_lock()
        self.ranks = Ranks(max(self.widths))
        self._chance = chance
        self._size: int | None = None
        self._numbers = count()
        if isinstance(chance, int):
            SeededChance(chance)  # refuses what is no seed

    def __repr__(self) -> str:
        widths = "x".join(map(str, self.widths))
        return f"MultiCandidate(widths={widths}, law={self.law!r})"

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> SampledStream:
        """A stream with a seat of its own; nothing is shared, so `namespace` does not matter."""
        chance = self._chance
        if isinstance(chance, int):
            chance = SeededChance((chance << 32) + next(self._numbers))
        return SampledStream(self, prompt, chance)

    def close(self) -> None:
        """Nothing to release: whoever made the model closes it."""

    def pair(self, target_info: TargetInfo) -> None:
        """Raise PairMismatch where the model does not suit the target; take its width of rows."""
        pair_models([self.model], target_info)
        self._size = target_info.vocab_size

    def count(self, counts: DraftCounts) -> None:
        """Add what one draft took. Safe from several threads."""
        with self._lock:
            self.counts.add(counts)

    def q(self, row: NDArray[Any], seen: TokenIds) -> Weights:
        """The weights that a token is drawn by, one for each entry of the target's rows."""
        size = len(row) if self._size is None else self._size
        if size < len(row):
            row = row[:size]
        elif size > len(row):
            row = np.concatenate((row, np.full(size - len(row), -np.inf, dtype=row.dtype)))
        return self.law(row, seen)


class SampledStream:
    """One sequence of a `MultiCandidate`. Used by one thread at a time."""

    def __init__(self, drafter: MultiCandidate, prompt: TokenIds, chance: Chance) -> None:
        self._drafter, self._chance = drafter, chance
        self._seat = drafter.model.open(prompt)
        self._context = prompt
        self._sample = _Sample()
        self._promises = Promises(drafter.gain)

    def propose(self, budget: Budget) -> Draft:
        """A tree drawn anew; the stream itself does not move, its chance does."""
        start, before = perf_counter(), self._seat.passes
        self._sample = _Sample()
        self._promises.forget()
        room = self._seat.room
        if budget.reach and room != 0:
            self._draw(budget, budget.reach if room is None else min(budget.reach, room + 1))
        draft = self._sample.draft()
        passes, seconds = self._seat.passes - before, perf_counter() - start
        self._promises.took(passes, seconds)
        self._drafter.count(
            DraftCounts(1, len(draft), passes=passes, rows=self._sample.seated, seconds=seconds)
        )
        return draft

    def observe(self, feedback: Feedback) -> None:
        """Move the seat along what was committed, and count what was accepted."""
        drafter, tokens, sample = self._drafter, feedback.tokens, self._sample
        path = sample.follow(tokens[: len(feedback.verdict.path)].tolist())
        for parent, accepted in zip([ROOT, *path], [*path, None], strict=True):
            drafter.ranks.learn(sample.below(parent), accepted)
        self._promises.record(len(path), len(tokens))
        places = [sample.places[node] for node in path]
        if None in places:
            places = places[: places.index(None)]
        self._seat.keep(np.array(places, dtype=np.int32), tokens)
        self._context = np.concatenate((self._context, tokens))
        self._sample = _Sample()

    def close(self) -> None:
        """Release the seat and its cache."""
        self._seat.close()

    def _draw(self, budget: Budget, reach: int) -> None:
        drafter, sample = self._drafter, self._sample
        rows: list[NDArray[Any]] = [self._seat.root()]
        level = [ROOT]
        for depth, width in enumerate(drafter.widths[:reach]):
            level = level[: (budget.nodes - len(sample)) // width]
            promised = sum(sample.value(node) for node in level)
            if not level or (depth and not self._promises.pays(promised)):
                break
            if depth:
                rows = self._rows(level)
            drawn: list[int] = []
            for parent, row in zip(level, rows, strict=True):
                q = drafter.q(row, np.concatenate((self._context, sample.path_tokens(parent))))
                drawn += self._siblings(parent, q, width)
            level = [
                node
                for node in drawn
                if sample.value(node) >= budget.floor
                and sample.tokens[node] not in drafter.model.end_tokens
            ]

    def _siblings(self, parent: int, q: Weights, width: int) -> list[int]:
        """Up to `width` nodes below a parent, in the order of their draws."""
        sample, drafter = self._sample, self._drafter
        tokens: list[int] = []
        nodes: list[int] = []
        for rank in range(width):
            token = drafter.draw(self._chance, q, tokens)
            if token is None:
                break
            tokens.append(token)
            nodes.append(sample.add(parent, token, drafter.ranks.accepted(rank), q))
        return nodes

    def _rows(self, level: list[int]) -> list[NDArray[Any]]:
        """One pass over a level; equal tokens below one parent share a row."""
        sample = self._sample
        new: dict[tuple[int, int], int] = {}
        for node in level:
            parent = sample.parents[node]
            above = ROOT if parent == ROOT else sample.places[parent]
            sample.places[node] = sample.seated + new.setdefault(
                (above, sample.tokens[node]), len(new)
            )
        first = sample.seated
        sample.seated += len(new)
        parents, tokens = zip(*new, strict=True)
        rows = self._seat.expand(
            np.array(tokens, dtype=np.int32), np.array(parents, dtype=np.int32)
        )
        return [rows[sample.places[node] - first] for node in level]


class Ranks:
    """How often the first, second, ... drawn of siblings was accepted. Safe between threads."""

    def __init__(self, most: int) -> None:
        self._tried: list[float] = [1.0] * most
        self._kept: list[float] = [0.6 / 3**rank for rank in range(most)]
        self._lock = fork_lock()

    def accepted(self, rank: int) -> float:
        """P(accepted | parent accepted) of a sibling."""
        return self._kept[rank] / self._tried[rank]

    def learn(self, siblings: Sequence[int], accepted: int | None) -> None:
        """One of these siblings was accepted, or none."""
        with self._lock:
            for rank, sibling in enumerate(siblings[: len(self._tried)]):
                self._tried[rank] = 0.99 * self._tried[rank] + 1.0
                self._kept[rank] = 0.99 * self._kept[rank] + (sibling == accepted)


class _Sample:
    """The nodes of one draft, in the order in which they were drawn."""

    __slots__ = (
        "_children",
        "_laws",
        "_shares",
        "_values",
        "parents",
        "places",
        "seated",
        "tokens",
    )

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.places: list[Any] = []
        self.seated = 0
        self._shares: list[float] = []
        self._values: list[float] = []
        self._laws: list[Weights] = []
        self._children: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, parent: int, token: int, share: float, q: Weights) -> int:
        node = len(self.tokens)
        self.tokens.append(token)
        self.parents.append(parent)
        self.places.append(None)
        self._shares.append(share)
        self._values.append(share * self.value(parent))
        self._laws.append(q)
        self._children.setdefault(parent, []).append(node)
        return node

    def value(self, node: int) -> float:
        return 1.0 if node == ROOT else self._values[node]

    def below(self, node: int) -> list[int]:
        return self._children.get(node, [])

    def path_tokens(self, node: int) -> TokenIds:
        tokens: list[int] = []
        while node != ROOT:
            tokens.append(self.tokens[node])
            node = self.parents[node]
        return np.array(tokens[::-1], dtype=np.int32)

    def follow(self, tokens: Sequence[int]) -> list[int]:
        """The nodes that hold these tokens; of equal siblings the first that goes on."""
        ways: list[list[int]] = [[]]
        for token in tokens:
            longer = [
                [*way, node]
                for way in ways
                for node in self.below(way[-1] if way else ROOT)
                if self.tokens[node] == token
            ]
            if not longer:
                break
            ways = longer
        return ways[0]

    def draft(self) -> Draft:
        if not self.tokens:
            return Draft.empty()
        return Draft(
            np.array(self.tokens, dtype=np.int32),
            np.array(self.parents, dtype=np.int32),
            np.array(self._shares, dtype=np.float32),
            np.full(len(self.tokens), SMALL_MODEL, dtype=np.uint8),
            np.array(self._laws),
        )
