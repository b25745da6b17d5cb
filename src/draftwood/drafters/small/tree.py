r"""Trees of small models' likeliest tokens: SpecInfer's, and best-first.

   <2,2,1>     context           the k_i likeliest tokens of each node of level i
               /     \
              a       b
             / \     / \
            c   d   e   f
            |   |   |   |
            g   h   i   j
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from time import perf_counter

from draftwood.draft import Budget, Draft, TokenIds
from draftwood.drafters.small.growing import GrowingDrafter, GrowingStream
from draftwood.drafters.small.growth import Growth
from draftwood.drafters.small.seat import pair_models
from draftwood.errors import InvalidOption
from draftwood.protocols import DraftModel, Feedback, Partner


@dataclass(frozen=True, slots=True)
class Expansion:
    """An expansion configuration <k_1 ... k_m>: k_i candidates below each node of level i - 1."""

    widths: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise InvalidOption(
                f"widths are {self.widths}; give 1 candidate or more for each level, as in 4x2x1"
            )

    @property
    def passes(self) -> int:
        """One a level."""
        return len(self.widths)

    @property
    def nodes(self) -> int:
        """All of them."""
        return sum(prod(self.widths[: level + 1]) for level in range(len(self.widths)))

    def branch(self, turn: int) -> int:
        """k of the level below."""
        return self.widths[turn]

    def level(self, growth: Growth, added: list[int]) -> list[int]:
        """The whole last level."""
        return added


class SpecInferTree:
    """Token trees by an expansion configuration, from one small model or several merged.

    widths: <k_1 ... k_m>. models: each grows a tree of its own; paths of equal tokens are one path
    of the draft, and the larger probability counts. gain: see `Gain`; 0 grows the whole
    configuration always. A draft larger than its budget keeps the likeliest paths. counts: what
    drafting took so far, over all models.

    Miao et al. 2024, *SpecInfer* (arXiv 2305.09781), sections 3.1 and 3.2.

    Raises:
        InvalidOption: no model, no widths or one below 1, or a gain that is none.
    """

    def __init__(
        self,
        models: DraftModel | Sequence[DraftModel],
        *,
        widths: Sequence[int] = (4, 2, 1, 1),
        gain: float | str = "auto",
    ) -> None:
        several = list(models) if isinstance(models, Sequence) else [models]
        if not several:
            raise InvalidOption("no small model is given; give one or more")
        shape = Expansion(tuple(widths))
        self._drafters = [GrowingDrafter(model, shape, gain=gain) for model in several]
        self.counts = self._drafters[0].counts  # those of the one, or what a merged stream adds

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> GrowingStream | MergedStream:
        """A stream with a seat in each model."""
        if len(self._drafters) == 1:
            return self._drafters[0].open(prompt)
        with ExitStack() as opened:
            streams = []
            for drafter in self._drafters:
                streams.append(drafter.open(prompt))
                opened.callback(streams[-1].close)
            opened.pop_all()
        return MergedStream(self, streams)

    def close(self) -> None:
        """Nothing to give back: the models are their makers'."""

    def pair(self, partner: Partner) -> None:
        """Raise PairMismatch where a model does not suit the target."""
        pair_models((drafter.model for drafter in self._drafters), partner)


class MergedStream:
    """One sequence in several small models, their trees merged by token paths."""

    def __init__(self, drafter: SpecInferTree, streams: Sequence[GrowingStream]) -> None:
        self._drafter, self._streams = drafter, streams

    def propose(self, budget: Budget) -> Draft:
        """All paths of all trees, the likeliest first; `source` says whose a node was first."""
        start = perf_counter()
        merged, sources = Growth(), list[int]()
        for source, stream in enumerate(self._streams):
            merged.join(stream.grow(budget), sources, source)
        draft = merged.draft(budget.nodes, budget.floor, sources=sources)
        passes = sum(stream.passes for stream in self._streams)
        self._drafter.counts.add(len(draft), passes, perf_counter() - start)
        return draft

    def observe(self, feedback: Feedback) -> None:
        """Move all seats."""
        for stream in self._streams:
            stream.observe(feedback)

    def close(self) -> None:
        """Give the seats back."""
        for stream in self._streams:
            stream.close()


@dataclass(frozen=True, slots=True)
class BestFirst:
    """The likeliest nodes that were not passed yet, wherever they stand, `width` a pass."""

    top_k: int
    width: int
    passes: int
    nodes: int

    def branch(self, turn: int) -> int:
        """As many below every node."""
        return self.top_k

    def level(self, growth: Growth, added: list[int]) -> list[int]:
        """The likeliest open nodes; equals: the one that was found first."""
        waiting = [node for node, place in enumerate(growth.places) if place < 0]
        waiting.sort(key=growth.values.__getitem__, reverse=True)
        return waiting[: self.width]


class BestFirstTree(GrowingDrafter):
    """A dynamic tree: each pass extends the likeliest paths found so far, and the best are drafted.

    top_k: candidates below a node. width: nodes a pass. passes: at most. nodes: of the draft.
    floor: paths less likely are not drafted. gain: see `Gain`. The shape follows the model's
    confidence: a chain where it is sure, bushes where it is not (the dynamic trees of EAGLE-2,
    arXiv 2406.16858, without its training).

    Raises:
        InvalidOption: an option below 1, a floor outside [0, 1], or a gain that is none.
    """

    def __init__(
        self,
        model: DraftModel,
        *,
        nodes: int = 32,
        top_k: int = 4,
        width: int = 8,
        passes: int = 16,
        floor: float = 0.05,
        gain: float | str = "auto",
    ) -> None:
        options = {"nodes": nodes, "top_k": top_k, "width": width, "passes": passes}
        for name, value in options.items():
            if value < 1:
                raise InvalidOption(f"{name} is {value}; use 1 or more")
        if not 0.0 <= floor <= 1.0:
            raise InvalidOption(f"floor is {floor}; use a probability of 0 to 1")
        super().__init__(model, BestFirst(top_k, width, passes, nodes), gain=gain, floor=floor)
